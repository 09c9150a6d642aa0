"""METAGENE Classifier: fine-tune genomic foundation models into classifiers of sequencing reads."""

__version__ = "0.1.0"
