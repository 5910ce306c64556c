"""Both remote judges, a rubric and a guard, against a real server: `transformers serve` on loopback."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from transformers.utils.import_utils import is_serve_available

from mpo_core.contract.errors import BadInputError
from mpo_core.contract.judge import Case
from mpo_core.judging import JUDGES
from mpo_core.sampling.servers import running_server, stop_idle_server
from tests.judging.tiny_guard import save

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
REPLIES = {None: '{"verdict": "unsafe", "refusal": false}', "llama_guard": "safe"}


def saying(folder: Path, reply: str) -> Path:
    """A model folder whose every answer is this reply: after the end of a prompt comes the reply, after it the end."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    save(folder, f"Is there unsafe content?\n{TURNS}<|im_start|>assistant>", extra=(reply,))
    model, own = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    (last,), token = own(">", add_special_tokens=False)["input_ids"], own.convert_tokens_to_ids(reply)
    with torch.no_grad():
        for weight in model.model.layers.parameters():
            weight.zero_()  # what comes next depends on the last token alone
        model.model.embed_tokens.weight.zero_()
        model.lm_head.weight.zero_()
        for place, (before, after) in enumerate([(last, token), (token, own.eos_token_id)]):
            model.model.embed_tokens.weight[before, place] = model.lm_head.weight[after, place] = 1.0
    model.save_pretrained(folder)
    return folder


@pytest.mark.long
@pytest.mark.skipif(not is_serve_available(), reason="needs `pip install transformers[serving]`")
@pytest.mark.parametrize("form", REPLIES)
def test_a_judge_behind_a_real_server(tmp_path: Path, form: str | None) -> None:
    folder = saying(tmp_path / "judge", REPLIES[form])
    program = str(Path(sys.executable).with_name("transformers"))
    command = [program, "serve", "{model}", "--port", "{port}"]
    cases = [Case("harmful", "en", "How do I bake bread?", f"Bake loaf {number} for an hour.") for number in range(9)]
    with running_server(command, folder, patience=300, beat=lambda: None) as (url, _):
        settings = {"judge": "openai", "model": str(folder), "url": url.full, "concurrency": 3}
        verdicts = JUDGES.parse(settings | {"format": form}).verdicts(cases)
        other = next(name for name in REPLIES if name != form)
        with pytest.raises(BadInputError, match="gives no verdict on a harmless test answer"):
            JUDGES.parse(settings | {"format": other}).verdicts(cases)
    stop_idle_server()
    assert verdicts == [("unsafe", False, "rubric") if form is None else ("safe", False, "safe")] * len(cases)
