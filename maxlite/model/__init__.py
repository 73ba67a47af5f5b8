"""Llama and Mistral in Flax NNX, with Hugging Face's names, orientation and numerics."""
