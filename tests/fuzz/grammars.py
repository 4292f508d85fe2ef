"""Writers of text that is nearly in a format: right pieces, often in the wrong place."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from tests.fuzz.mutators import MORSELS

Grammar = Callable[[Random], bytes]
ENDS = (b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\n\n", b"")


def _letters(random: Random, letters: bytes, longest: int = 40) -> bytes:
    return bytes(random.choice(letters) for _ in range(random.randint(0, longest)))


def _odd(random: Random, text: bytes, share: float = 0.05) -> bytes:
    """The text, seldom with a morsel in it."""
    if random.random() > share:
        return text
    place = random.randint(0, len(text))
    return text[:place] + random.choice(MORSELS) + text[place:]


def fasta(random: Random) -> bytes:
    """Headers and sequence lines."""
    bases = random.choice((b"ACGT", b"ACGTN", b"acgtACGT", b"ACDEFGHIKLMNPQRSTVWY", b"ACGT-.*", b"ACGT 0"))
    lines = []
    for i in range(random.randint(0, 5)):
        name = random.choice((b"", b" ", b"s%d" % i, b"same key=%d" % i, b"x key=a key=b", b"\xc3\xa9"))
        lines.append(_odd(random, random.choice((b">", b">", b">", b"> ", b"", b";", b"@")) + name))
        lines += [_odd(random, _letters(random, bases)) for _ in range(random.choice((0, 1, 1, 1, 2)))]
    return _joined(random, lines)


def fastq(random: Random) -> bytes:
    """Four lines a record, mostly."""
    lines = []
    for i in range(random.randint(0, 5)):
        bases = _letters(random, b"ACGTN")
        quality = b"I" * (len(bases) + random.choice((0, 0, 0, 0, 0, 1, -1)))
        record = [
            b"@r%d" % i,
            bases,
            random.choice((b"+", b"+", b"+r%d" % i, b"")),
            random.choice((quality, b"@" + quality[1:])),
        ]
        if random.random() < 0.1:
            del record[random.randrange(4)]
        lines += [_odd(random, line) for line in record]
    return _joined(random, lines)


def genbank(random: Random) -> bytes:
    """Sections of a record in any order."""
    sections = [
        b"LOCUS       X %d bp    DNA     linear   BCT 01-JAN-2000" % random.choice((0, 8, 20, 10**12)),
        b"LOCUS", b"LOCUS       X 8 aa PRI", b"DEFINITION  d.", b"ACCESSION   X", b"VERSION     X.1  GI:5",
        b"KEYWORDS    .",
        b"SOURCE      s\n  ORGANISM  o", b"REFERENCE   1  (bases 1 to x)\n  AUTHORS   A", b"COMMENT     c",
        b"DBLINK      x",
        b"FEATURES             Location/Qualifiers\n     source          1..8\n                     /a=\"b\"",
        b"FEATURES             Location/Qualifiers\n     CDS             join(1..,complement(<3..>5)\n   /x",
        b"CONTIG      join(A:1..5)", b"WGS         A-B", b"BASE COUNT 1 a", b"PRIMARY     TLS", b"STRUCTURED",
        b"ORIGIN\n        1 acgtacgtac gt", b"ORIGIN", b"//", b"//",
    ]  # fmt: skip
    chosen = [sections[0], *random.choices(sections, k=random.randint(0, 9))]
    if random.random() < 0.7:
        chosen += [sections[-4], b"//"]
    return _joined(random, [_odd(random, section) for section in chosen])


def stockholm(random: Random) -> bytes:
    """Alignment lines and mark-up."""
    lines = [b"# STOCKHOLM 1.0"]
    for i in range(random.randint(0, 8)):
        row = _letters(random, b"ACDEFGHIKLMNPQRSTVWY-.", 12)
        lines.append(
            random.choice(
                (b"s%d %s" % (i % 3, row), b"s%d/1-9 %s" % (i, row), b"#=GF ID x", b"#=GS s0 AC y",
                b"#=GR s0 SS " + row,
                 b"#=GC SS_cons " + row, b"#=G", b"#=GS", b"s1", b"//", b"# STOCKHOLM 1.0", b"")
            )
        )  # fmt: skip
    return _joined(random, [_odd(random, line) for line in [*lines, b"//"]])


ATOMS = (
    b"C",
    b"c",
    b"N",
    b"n",
    b"O",
    b"Cl",
    b"Br",
    b"[nH]",
    b"[13C@@H]",
    b"[Na+]",
    b"[O-]",
    b"[Pt@SP1]",
    b"*",
    b"[*:1]",
    b"[",
    b"]",
    b"[]",
)
BONDS = (
    b"",
    b"",
    b"",
    b"=",
    b"#",
    b"(",
    b")",
    b".",
    b"1",
    b"1",
    b"2",
    b"%12",
    b"%",
    b"/",
    b"\\",
    b":",
    b"~",
    b"->",
    b">>",
)


def smi(random: Random) -> bytes:
    """Atoms, bonds, rings and branches that need not match."""
    lines = []
    for _ in range(random.randint(0, 4)):
        pieces = [random.choice(ATOMS) + random.choice(BONDS) for _ in range(random.randint(0, 12))]
        lines.append(_odd(random, b"".join(pieces) + random.choice((b"", b" name", b"\tname\tmore", b" "))))
    return _joined(random, lines)


def csv(random: Random) -> bytes:
    """Rows and quotes."""
    mark = random.choice((b",", b",", b"\t", b";", b"|"))
    names = random.sample(
        (b"smiles", b"sequence", b"text", b"label", b"name", b"id", b"", b"SMILES", b'"text"'), random.randint(1, 6)
    )
    cells = (
        b"CCO",
        b"ACGT",
        b"x",
        b"y",
        b"",
        b"NA",
        b'"a,b"',
        b'"a""b"',
        b'"',
        b'"open',
        b"1e5",
        b"'",
        b'a"b',
        b'"x"y',
        b"\xc3\xa9",
    )
    rows = [mark.join(names)]
    for _ in range(random.randint(0, 5)):
        width = len(names) + random.choice((0, 0, 0, 0, 0, 0, 1, -1))
        rows.append(_odd(random, mark.join(random.choice(cells) for _ in range(width))))
    return _joined(random, rows)


def jsonl(random: Random) -> bytes:
    """JSON values, a line each."""
    values = (
        b'{"text": "a", "label": "x"}', b'{"text": "", "label": 1}', b'{"text": null, "label": "x"}',
        b'{"text": ["a"], "label": {}}',
        b'{"text": "\\ud800", "label": "x"}', b'{"text": "\\u0000", "label": "x"}',
        b'{"text": "a", "text": "b", "label": NaN}',
        b"[]", b"{}", b"1", b"null", b'"a"', b"{", b'{"label": "x"}', b"[" * 3000, b'{"a":' * 3000, b"9" * 5000,
        b'{"text": "b", "label": ' + b"9" * 5000 + b"}", b'{"text": 1e999, "label": "x"}',
        b'{"content": "z", "label": true, "id": []}',
    )  # fmt: skip
    return _joined(random, [_odd(random, random.choice(values)) for _ in range(random.randint(0, 5))])


def numbers(random: Random) -> bytes:
    """Integers, and what looks like some."""
    words = (
        b"1", b"22", b"0", b"-1", b"+3", b"1.0", b"1e3", b"0x1", b"1_0", b"\xd9\xa3", b"\xc2\xb2", b"9" * 30,
        b"9" * 5000, b"[", b"]", b"tokens",
    )  # fmt: skip
    marks = (b" ", b",", b"\t", b"; ", b"  ")
    lines = []
    for _ in range(random.randint(0, 5)):
        row = [random.choice(words[:3] * 6 + words) + random.choice(marks) for _ in range(random.randint(0, 6))]
        lines.append(_odd(random, b"".join(row)))
    return _joined(random, lines)


def text(random: Random) -> bytes:
    """Words and morsels."""
    words = (
        b"the",
        b"cat",
        b"[MASK]",
        b"\xc3\xa9t\xc3\xa9",
        b"\xf0\x9f\x99\x82",
        b"ACGT",
        b"\xd7\xa9\xd7\x9c",
        b"\xe2\x80\xae",
        b"a\xcc\x88",
    )
    return _joined(
        random, [_odd(random, b" ".join(random.choices(words, k=random.randint(0, 30))), 0.2) for _ in range(4)]
    )


def _joined(random: Random, lines: list[bytes]) -> bytes:
    end = random.choice(ENDS)
    return b"".join(line + (end if random.random() < 0.95 else random.choice(ENDS)) for line in lines)


GRAMMARS: dict[str, Grammar] = {
    one.__name__: one for one in (csv, fasta, fastq, genbank, jsonl, numbers, smi, stockholm, text)
}
