"""The domains that come with discdiff, one package each: text, dna, protein, smiles and tokens."""
