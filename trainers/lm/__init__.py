"""A language-model trainer: transformers models in our own loop."""
