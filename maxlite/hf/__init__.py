"""Hugging Face model folders: read as lazy trees of arrays, written back tensor by tensor."""
