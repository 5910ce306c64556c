"""Files of the user's: what is read, and the line that is named where something is wrong."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpo_core.contract.errors import BadInputError
from mpo_core.files.read import CsvRow, digest, read_csv, read_parquet, read_text


def test_csv_rows_know_the_line_on_which_they_start(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes('\ufefftext,note\r\n"two\r\nlines","a, b"\r\n\r\nlast,\r\n'.encode())
    assert read_csv(path, fix="-") == (
        ["text", "note"],
        [CsvRow(2, ["two\r\nlines", "a, b"]), CsvRow(5, ["last", ""])],
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n3\n", r"a\.csv, line 3: 1 column where the header has 2"),
        (b'a,b\n"1\n2",3\n4,5,6\n', r"a\.csv, line 4: 3 columns"),
        (b"a,a\n1,2\n", r"a\.csv, line 1: the header names a column twice"),
        (b'a\n"1\n', r"a\.csv, line \d: this is not CSV"),
        ("\ufeffa\nx\n".encode() + b"\xff\n", r"a\.csv, line 3: not UTF-8"),
    ],
)
def test_a_malformed_csv_is_reported_with_its_line(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_csv(path, fix="-")


@pytest.mark.parametrize("read", [read_csv, read_text, read_parquet, digest])
def test_a_missing_file_is_reported_with_what_to_check(tmp_path, read):
    with pytest.raises(BadInputError, match=r"none: cannot be read \(No such file or directory\)\. Check the setting"):
        read(tmp_path / "none", fix="Check the setting.")


def test_parquet_columns_are_what_the_file_holds(tmp_path):
    path = tmp_path / "language=en" / "a.parquet"
    path.parent.mkdir()
    pq.write_table(pa.table({"x": [1]}), path)
    assert read_parquet(path, fix="-").column_names == ["x"]
    path.write_bytes(b"PAR1nonsense")
    with pytest.raises(BadInputError, match=r"a\.parquet: this is not a readable Parquet file"):
        read_parquet(path, fix="-")
