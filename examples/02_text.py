"""Train a language model on text that every Python ships: the help topics of `pydoc`.

    python examples/02_text.py

For a corpus of your own: `domain.dataset("corpus.txt", length=64)`, or `discdiff train corpus.txt --domain text`.
"""

import discdiff as dd
from discdiff.data import SequenceDataset
from domains.text.shipped import shipped_text


def main(max_steps: int = 1500, dim: int = 128, depth: int = 4) -> list[str]:
    """Prints samples and infills; returns the infills."""
    domain = dd.domain("text", tokenizer="characters")
    corpus = shipped_text()
    domain.fit([corpus])
    train, valid = SequenceDataset.from_sequences(domain, [corpus], length=64).split(0.05)

    process = dd.Absorbing(domain.vocab_size)
    network = dd.Transformer(process.num_states, dim=dim, depth=depth, heads=4)
    model = dd.Diffusion(network, process, dd.LogLinear(), dd.Conditional())
    print(dd.fit(model, train, valid=valid, max_steps=max_steps, samples=0))

    pipe = dd.Pipeline.of(model, train)
    for text in pipe.sample(2, length=64, steps=64):
        print("sample:", repr(text))
    infills = pipe.infill("The [MASK:8] statement is used to [MASK:24].", 3, steps=32)
    for text in infills:
        print("infill:", repr(text))
    return infills


if __name__ == "__main__":
    main()
