"""The classifiers of the model's tests."""

from tests.model.conftest import classifier_of, load

__all__ = ["classifier_of", "load"]
