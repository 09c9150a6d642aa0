"""Files of labelled reads to a store: cleaned, labelled and tokenized once, in constant memory, resumable."""
