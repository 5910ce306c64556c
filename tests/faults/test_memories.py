"""Translation memories as other tools write them: each unit is found, and codes of a format are no text."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.translation.memory import MemoryEngine

TEA, CHAI = "Tea is good.", "Chai ni nzuri."


def unit(*variants, lang="xml:lang"):
    return "<tu>" + "".join(f'<tuv {lang}="{tag}"><seg>{text}</seg></tuv>' for tag, text in variants) + "</tu>"


def tmx(*units, head='<?xml version="1.0"?>', root="<tmx>"):
    return f"{head}{root}<header/><body>{''.join(units)}</body></tmx>"


def translated(path, text=TEA, source="en", target="sw", **more):
    return MemoryEngine(path, **more).translate([text], source, target)[0].text


PAIR = unit(("en", TEA), ("sw", CHAI))
FILES = {
    "regions": tmx(unit(("en-GB", "Rain"), ("sw-TZ", "Mvua")), unit(("en-US", TEA), ("sw-KE", CHAI))),
    "two regions in a unit": tmx(unit(("en-GB", "Teas"), ("en-US", TEA), ("sw-TZ", CHAI), ("sw-KE", "Chai"))),
    "the language itself first": tmx(unit(("en", TEA), ("sw-TZ", "Chai"), ("sw", CHAI))),
    "capitals and underscores": tmx(unit(("EN_us", TEA), ("SW_KE", CHAI))),
    "three letters": tmx(unit(("eng", TEA), ("swh", CHAI))),
    "a name": tmx(unit(("English", TEA), ("Swahili", CHAI))),
    "an own script": tmx(unit(("en-Latn-GB", TEA), ("sw-Latn", CHAI))),
    "UN region": tmx(unit(("en-001", TEA), ("sw-419", CHAI))),
    "lang of TMX 1.1": tmx(unit(("EN-US", TEA), ("SW", CHAI), lang="lang")),
    "the same language twice": tmx(unit(("en", "Tea"), ("en", TEA), ("sw", CHAI))),
    "default namespace": tmx(PAIR, root='<tmx xmlns="http://www.lisa.org/tmx14">'),
    "paired codes": tmx(unit(("en", "Tea <bpt>&lt;b&gt;</bpt>is<ept>&lt;/b&gt;</ept> good."), ("sw", CHAI))),
    "codes in the translation": tmx(unit(("en", TEA), ("sw", "<ph x='1'>{\\cs6\\f1}</ph>Chai ni <it>x</it>nzuri."))),
    "a code between spaces": tmx(unit(("en", "Tea <ph>&lt;br/&gt;</ph> is good."), ("sw", CHAI))),
    "highlight": tmx(unit(("en", "Tea <hi type='b'>is <hi>good</hi></hi>."), ("sw", "<hi>Chai</hi> ni nzuri."))),
    "text of a code": tmx(unit(("en", "Tea <ph>&lt;img alt='<sub>a cup</sub>'/&gt;</ph>is good."), ("sw", CHAI))),
    "a line break as a code": tmx(unit(("en", "Tea is<ph>&lt;br/&gt;</ph>good."), ("sw", CHAI))),
    "a line break by its type": tmx(unit(("en", "Tea is<ph type='lb'/>good."), ("sw", "Chai ni<ph>\\n</ph>nzuri."))),
    "a variant without a segment": tmx("<tu><tuv xml:lang='en'/><tuv xml:lang='sw'><seg>x</seg></tuv></tu>", PAIR),
    "a variant without a language": tmx("<tu><tuv><seg>x</seg></tuv></tu>", PAIR),
    "an empty translation before": tmx(unit(("en", TEA), ("sw", "")), PAIR),
    "two translations, the first wins": tmx(PAIR, unit(("en", TEA), ("sw", "Nyingine"))),
    "another source language in the header": tmx(PAIR).replace("<header/>", '<header srclang="sw"/>'),
    "any source language": tmx(PAIR).replace("<header/>", '<header srclang="*all*"/>'),
    "notes and properties": tmx(PAIR.replace("<seg>", "<note>n</note><prop type='a'>p</prop><seg>")),
    "comments and CDATA": tmx(unit(("en", "Tea <!-- x -->is <![CDATA[good.]]>"), ("sw", CHAI))),
    "on lines of its own": tmx(unit(("en", "\n  Tea is\n  good.\n"), ("sw", f"\n  {CHAI}\n"))),
    "unknown code": tmx(unit(("en", "<ut>{\\b}</ut>Tea is good."), ("sw", CHAI))),
    "much nesting": tmx(unit(("en", "<hi>" * 20000 + TEA + "</hi>" * 20000), ("sw", CHAI))),
    "a document type": tmx(PAIR, head='<?xml version="1.0"?><!DOCTYPE tmx SYSTEM "tmx14.dtd">'),
}


@pytest.mark.parametrize("case", FILES)
def test_each_form_of_tmx(tmp_path, case):
    path = tmp_path / "m.tmx"
    path.write_text(FILES[case], encoding="utf-8")
    assert translated(path) == CHAI


def test_a_code_that_is_a_placeholder_may_be_text(tmp_path):
    path = tmp_path / "m.tmx"
    path.write_text(tmx(unit(("en", "Bake <ph>{0}</ph> now."), ("sw", "Oka <ph>{0}</ph> sasa."))), encoding="utf-8")
    assert translated(path, "Bake {0} now.") == "Oka {0} sasa."
    assert translated(path, "Bake now.") == "Oka sasa."
    assert MemoryEngine(path).units("en", "sw") == (1, 1, 1)


@pytest.mark.parametrize(
    ("tag", "is_chinese"),
    [("zh", True), ("zh-CN", True), ("zh-Hans", True), ("zh_SG", True), ("zh-TW", False), ("zh-Hant-HK", False)],
)
def test_traditional_characters_are_not_zh(tmp_path, tag, is_chinese):
    path = tmp_path / "m.tmx"
    path.write_text(tmx(unit(("en", TEA), (tag, "茶很好。"))), encoding="utf-8")
    if is_chinese:
        assert translated(path, target="zh") == "茶很好。"
    else:
        with pytest.raises(BadInputError, match=f"no column 'zh'.*Columns present: en, {tag}"):
            translated(path, target="zh")
    assert translated(path, target="zh", columns={"zh": tag}) == "茶很好。"


ENCODINGS = {
    "UTF-8": ("utf-8", "UTF-8"),
    "byte-order mark": ("utf-8-sig", "UTF-8"),
    "UTF-16": ("utf-16", "UTF-16"),
    "a mark of UTF-8 against the declaration": ("utf-8-sig", "ISO-8859-1"),
    "a mark of UTF-16 against the declaration": ("utf-16", "UTF-8"),
    "UTF-16, no mark": ("utf-16-le", "UTF-16"),
    "UTF-32": ("utf-32", "UTF-32"),
    "Latin-1": ("latin-1", "ISO-8859-1"),
    "Windows": ("cp1252", "windows-1252"),
    "several bytes": ("gbk", "GBK"),
    "Japanese": ("shift_jis", "Shift_JIS"),
}


@pytest.mark.parametrize("case", ENCODINGS)
def test_each_declared_encoding(tmp_path, case):
    encoding, declared = ENCODINGS[case]
    tea = {"gbk": "茶", "shift_jis": "お茶"}.get(encoding, "Tee für Ömer")
    path = tmp_path / "m.tmx"
    head = f"<?xml version='1.0' encoding='{declared}'?>"
    path.write_bytes(tmx(unit(("en", tea), ("sw", CHAI)), head=head).encode(encoding))
    assert translated(path, tea) == CHAI


def declared(name, data=b""):
    return f'<?xml version="1.0" encoding="{name}"?>'.encode() + tmx(PAIR, head="").encode() + data


BAD = {
    "unknown": (declared("klingon"), r"m\.tmx, line 1: unknown encoding 'klingon'\. Save the file as UTF-8"),
    "no encoding of text": (declared("hex"), "unknown encoding 'hex'"),
    "a path": (declared("../../x"), "unknown encoding"),
    "another one": (declared("UTF-16"), "declares UTF-16 and is in another encoding"),
    "broken UTF-8": (declared("UTF-8", b"\xff"), "the file is not in the encoding utf-8"),
    "broken UTF-16": ("<tmx/>".encode("utf-16") + b"\x00", "the file is not in the encoding utf-16"),
    "broken GBK": (declared("GBK", b"\xff\xff"), "the file is not in the encoding gbk"),
    "a bomb": (
        b'<?xml version="1.0"?><!DOCTYPE t [<!ENTITY a "'
        + b"x" * 1000
        + b'">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(8))
        + b"]><tmx><body><tu><tuv><seg>&i;</seg></tuv></tu></body></tmx>",
        "this is not XML",
    ),
    "an outer entity": (
        b'<?xml version="1.0"?><!DOCTYPE t [<!ENTITY a SYSTEM "file:///etc/hostname">]><tmx><tu>&a;</tu></tmx>',
        "no translation unit|this is not XML|no column",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tmx_is_a_single_line(tmp_path, case):
    data, message = BAD[case]
    path = tmp_path / "m.tmx"
    path.write_bytes(data)
    with pytest.raises(BadInputError, match=message):
        translated(path)


COLUMNS = {
    "plain": pa.string(),
    "large": pa.large_string(),
    "dictionary": pa.dictionary(pa.int8(), pa.string()),
    "dictionary of large": pa.dictionary(pa.int32(), pa.large_string()),
    "view": pa.string_view(),
}


@pytest.mark.parametrize("case", COLUMNS)
def test_each_kind_of_text_column(tmp_path, case):
    path = tmp_path / "m.parquet"
    columns = {"en-GB": [TEA, None], "sw": [CHAI, "x"]}
    pq.write_table(pa.table({n: pa.array(v, pa.string()).cast(COLUMNS[case]) for n, v in columns.items()}), path)
    assert translated(path) == CHAI
    assert MemoryEngine(path).units("en", "sw") == (1, 2, 1)


def test_text_that_is_not_utf8_is_no_translation(tmp_path):
    path = tmp_path / "m.parquet"
    broken = pa.array([b"\xff\xfe", TEA.encode()], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"en": broken, "sw": pa.array(["x", CHAI])}), path)
    assert translated(path) == CHAI


@pytest.mark.parametrize("header", ["en,sw", "en-GB,sw_KE", "EN,SW", "English,Swahili", "eng,swh"])
def test_the_header_of_a_csv(tmp_path, header):
    path = tmp_path / "m.csv"
    path.write_text(f"id,note,{header}\n7,x,{TEA},{CHAI}\n", encoding="utf-8")
    assert translated(path) == CHAI


def test_the_command_prints_how_many_units_it_read(mpo, tmp_path):
    (tmp_path / "p.csv").write_text(f"text\n{TEA}\n")
    (tmp_path / "m.tmx").write_text(FILES["regions"])
    memory, out = tmp_path / "m.tmx", tmp_path / "o.csv"
    outcome = mpo("translate", tmp_path / "p.csv", "--to", "sw", "--engine", f"memory={memory}", "--out", out)
    assert outcome.code == 0, outcome
    assert f"{memory}: 2 units in the source language, 2 in sw, 2 in both" in outcome.out
    assert CHAI in out.read_text()
