"""Models for others: what a run says of itself, its model card, the folder that is given away, the Hugging Face Hub."""
