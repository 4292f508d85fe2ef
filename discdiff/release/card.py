"""The model card: what a stranger needs to use a model, and what its author still has to say."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from discdiff.manifest import CONFIG_FILE

_TAGS = {"dna": ["biology", "dna"], "protein": ["biology", "protein"], "smiles": ["chemistry", "smiles"]}


def card(found: Mapping[str, Any], name: str, repository: str) -> str:
    """The text of `README.md`.

    Args:
        found: what `discdiff.release.facts` says of the run, with the training's command.
        name: of the model.
        repository: its name on the Hub, OWNER/NAME.
    """
    made, model, trained = found["generates"], found["model"], found["training"]
    tags = "".join(f"- {tag}\n" for tag in ["discrete-diffusion", *_TAGS.get(made["domain"], [made["domain"]])])
    return f"""---
library_name: discdiff
license: unknown
tags:
{tags}---

# {name}

A discrete diffusion model of {made["domain"]} sequences: it samples, infills and scores them. Made with discdiff
{trained["version"]}.

| | |
|---|---|
{_table(made, model, trained)}

## Use

```bash
pip install discdiff
discdiff show   hf://{repository}
discdiff sample hf://{repository} -n 10
```

```python
import discdiff as dd

pipe = dd.Pipeline.load("hf://{repository}")    # or the folder that holds this file
pipe.sample(10, seed=0)
```

A revision, `hf://{repository}@REVISION`, pins the files. `{CONFIG_FILE}` has the SHA-256 of the weights and of the
tokenizer, and loading compares; nothing is unpickled and no code of this repository runs. The tokenizer's ids are the
model's content tokens; the mask is the id after the last one, and no token of the tokenizer.

## Training

{_training(made, trained)}

## Limitations

- Samples follow the training set, with its errors and its biases; nothing here shows that one of them does what it was
  asked for in a cell, a flask or a sentence. Judge them by experiment, or by a model that was not trained on this data.
- Sequences have at most {made["longest"]:,} tokens, of the alphabet above; others are refused.
- The bound is an average over held-out sequences like those of the training set, and says nothing of others.

## Licence

Not stated: the author of this model has to choose one, here and in the first lines of this file, which the data's
licence allows.
"""


def _table(made: Mapping[str, Any], model: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    first, size = made["first_tokens"], made["vocabulary_size"]
    tokens = " ".join(first) if size is not None and size <= 30 and all(map(_plain, first)) else ""
    bound = trained["validation_bound"]
    rows = {
        "domain": made["domain"],
        "vocabulary": "" if size is None else f"{size:,} tokens" + (f": {tokens}" if tokens else ""),
        "longest sequence": f"{made['longest']:,} tokens",
        "classes": ", ".join(made["classes"] or []),
        "parameters": f"{model['parameters']:,}",
        "network": _class(model["network"]),
        "process, schedule": f"{_class(model['process'])}, {_class(model['schedule'])}",
        "sampler": _class(model["sampler"]) if model.get("sampler") else "",
        "bound on held-out data": "" if bound is None else _bound(bound),
    }
    return "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows.items() if value)


def _training(made: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    data = f" ({trained['data']})" if trained["data"] else ""
    said = [f"{made['training_sequences']:,} sequences{data}."]
    if trained["steps"] is not None:
        seconds = "" if trained["seconds"] is None else f" in {trained['seconds']:,.0f} seconds"
        said.append(f"{trained['steps']:,} steps{seconds}.")
    text = " ".join(said)
    if trained.get("command"):
        text += f"\n\n```bash\n{shlex.join(map(str, trained['command']))}\n```"
    return text


def _bound(bound: Mapping[str, Any]) -> str:
    error = bound["standard_error_nats"]
    spread = "" if error is None else f" ± {error:.4f}"
    nats, bits = bound["nats_per_token"], bound["bits_per_token"]
    return f"at most {nats:.4f}{spread} nats ({bits:.4f} bits) per token, at step {bound['step']}"


def _class(description: Mapping[str, Any]) -> str:
    return str(description["class_path"]).rpartition(".")[2]


def _plain(token: str) -> bool:
    return token.isprintable() and token.strip() == token and "`" not in token


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


__all__ = ["card"]
