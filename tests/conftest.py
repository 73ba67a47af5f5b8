"""What every test starts from: a quiet CPU environment, and tiny text, tokenizers and models.

Fixtures (each makes what it gives; nothing is downloaded, and torch is not needed):
  tiny_text           folder with en.txt, xx.txt (another script) and en.jsonl, one document a line
  tiny_tokenizer      folder with tokenizer.model (SentencePiece BPE, 400 pieces, byte fallback),
                      the tokenizer.json that says the same, and their config files
  make_folder(...)    makes a random Llama folder anywhere; see its docstring
  tiny_folder(...)    the same, by name in this test's tmp_path
"""

import hashlib
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

# Before anything imports jax: pytest may be called without tests/run.sh.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
_DEVICES = "--xla_force_host_platform_device_count"
_PATIENCE = "--xla_cpu_collective_call_terminate_timeout_seconds"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}=8".strip()
if _PATIENCE not in os.environ["XLA_FLAGS"]:  # eight devices share two cores: 40 s can be too few
    os.environ["XLA_FLAGS"] += f" {_PATIENCE}=300"
# Programs keep what they compile under $MAXLITE_CACHE: here the small things too.
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A job in the background ignores Ctrl-C, and so would every program that a test starts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests look at what is in the cache, so each process of several has its own.
_CACHE = tempfile.TemporaryDirectory(prefix="tests-", dir=os.environ.get("MAXLITE_CACHE"))
os.environ["MAXLITE_CACHE"] = _CACHE.name

import numpy as np  # noqa: E402
import pytest  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent

_WHO = "the cat|a small dog|my old friend|the tall woman|our teacher|a quiet boy".split("|")
_DOES = "sees|follows|likes|finds|remembers|waits for|talks about|looks at|paints".split("|")
_WHAT = "the moon|a red boat|the garden|an apple|three birds|the long road|a warm house".split("|")
_WHEN = "today|in the morning|every day|after the rain|at night|again and again".split("|")
_SYLLABLES = "가 나 다 라 마 바 사 아 자 하 강 산 달 별 물 불 꽃 말 길 집".split()


def _sentences(rng: np.random.Generator, count: int) -> list[str]:
    def pick(words):
        return words[rng.integers(len(words))]

    lines = []
    for i in range(count):
        said = [" ".join(map(pick, (_WHO, _DOES, _WHAT, _WHEN))) for _ in range(1 + i % 3)]
        lines.append(". ".join(s[0].upper() + s[1:] for s in said) + f", {i}.")
    return lines


def _words(rng: np.random.Generator, count: int) -> list[str]:
    def word():
        return "".join(rng.choice(_SYLLABLES, rng.integers(1, 4)))

    return [" ".join(word() for _ in range(rng.integers(3, 12))) + "." for _ in range(count)]


@pytest.fixture(scope="session")
def tiny_text(tmp_path_factory) -> Path:
    """A folder with 400 documents in each of en.txt, xx.txt and en.jsonl ({"text", "id"})."""
    folder = tmp_path_factory.mktemp("text")
    rng = np.random.default_rng(0)
    english, other = _sentences(rng, 400), _words(rng, 400)
    (folder / "en.txt").write_text("\n".join(english) + "\n", encoding="utf-8")
    (folder / "xx.txt").write_text("\n".join(other) + "\n", encoding="utf-8")
    with (folder / "en.jsonl").open("w", encoding="utf-8") as f:
        for i, line in enumerate(_sentences(rng, 400)):
            f.write(json.dumps({"text": line, "id": i}, ensure_ascii=False) + "\n")
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer(tmp_path_factory, tiny_text) -> Path:
    """A folder with a 400-piece Llama-style tokenizer: 0 <unk>, 1 <s>, 2 </s>, 3-258 bytes."""
    import sentencepiece

    folder = tmp_path_factory.mktemp("tokenizer")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tiny_text / "en.txt"),
        model_prefix=str(folder / "tokenizer"),
        model_type="bpe",
        vocab_size=400,
        byte_fallback=True,
        split_digits=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,
    )
    (folder / "tokenizer.vocab").unlink()
    _write_json(folder / "tokenizer.json", _as_tokenizer_json(folder / "tokenizer.model"))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(
        folder / "tokenizer_config.json",
        special
        | {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False},
    )
    return folder


def _as_tokenizer_json(model: Path) -> dict:
    """The `tokenizers` form of a SentencePiece BPE model: the same ids for the same text."""
    import sentencepiece

    sp = sentencepiece.SentencePieceProcessor(model_file=str(model))
    pieces = [sp.id_to_piece(i) for i in range(sp.vocab_size())]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    merges = []
    for i, piece in enumerate(pieces):  # a later piece has a lower score, so ids are merge ranks
        if sp.is_control(i) or sp.is_unknown(i) or sp.is_byte(i):
            continue
        halves = [(piece[:k], piece[k:]) for k in range(1, len(piece))]
        pairs = [(a, b) for a, b in halves if a in vocab and b in vocab]
        merges += sorted(pairs, key=lambda p: (vocab[p[0]], vocab[p[1]]))
    added = [
        {"id": i, "content": pieces[i], "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for i in range(3)
    ]
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [
                bos,
                {"Sequence": {"id": "A", "type_id": 0}},
                {"SpecialToken": {"id": "<s>", "type_id": 1}},
                {"Sequence": {"id": "B", "type_id": 1}},
            ],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(pair) for pair in merges],
        },
    }


@pytest.fixture
def tiny_folder(tmp_path, make_folder):
    """tiny_folder(name="model", **settings) -> Path: `make_folder` in this test's tmp_path."""
    return lambda name="model", **settings: make_folder(tmp_path / name, **settings)


@pytest.fixture(scope="session")
def make_folder(tiny_tokenizer):
    """Makes Llama folders with random weights, as Hugging Face writes them.

    make_folder(folder, *, seed=0, dtype="float32", shards=1, tokenizer="both", scale=0.05,
    **config) -> Path

    Args:
      folder: must not exist.
      seed: of the weights: the same arguments give the same bytes.
      dtype: of every tensor: float32, bfloat16 or float16.
      shards: 1 gives model.safetensors, more give that many files and an index.
      tokenizer: which of tokenizer.model and tokenizer.json: "both", "model", "json", or "" (none).
      scale: standard deviation of the matrices; norms are near one, biases near zero.
      config: any field of config.json, over 400 rows, width 32, ffn 48, 2 layers, 4 heads, 2 kv
        heads, 128 positions. None removes a field. `rope_parameters` (transformers 5) or
        `rope_theta`/`rope_scaling` (older) may be given.
    """

    def make(
        folder: Path,
        *,
        seed: int = 0,
        dtype: str = "float32",
        shards: int = 1,
        tokenizer: str = "both",
        scale: float = 0.05,
        **config,
    ) -> Path:
        folder.mkdir(parents=True)
        fields = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": 400,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "hidden_act": "silu",
            "max_position_embeddings": 128,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "attention_bias": False,
            "mlp_bias": False,
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "torch_dtype": dtype,
        } | config
        fields = {k: v for k, v in fields.items() if v is not None}
        _write_json(folder / "config.json", fields)
        _write_json(folder / "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2})
        write_safetensors(folder, _random_tensors(fields, seed, dtype, scale), shards)
        if tokenizer:
            left_out = {"model": "tokenizer.json", "json": "tokenizer.model"}.get(tokenizer)
            for file in sorted(tiny_tokenizer.iterdir()):
                if file.name != left_out:
                    shutil.copy(file, folder / file.name)
        return folder

    return make


def _random_tensors(fields: dict, seed: int, dtype: str, scale: float) -> dict[str, np.ndarray]:
    import ml_dtypes

    kinds = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
    rows, width, ffn = (fields[k] for k in ("vocab_size", "hidden_size", "intermediate_size"))
    heads = fields["num_attention_heads"]
    head_dim = fields.get("head_dim") or width // heads
    queries, keys = heads * head_dim, (fields.get("num_key_value_heads") or heads) * head_dim
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (rows, width)}
    attention = {"q_proj": (queries, width), "k_proj": (keys, width), "v_proj": (keys, width)}
    attention["o_proj"] = (width, queries)
    mlp = {"gate_proj": (ffn, width), "up_proj": (ffn, width), "down_proj": (width, ffn)}
    for i in range(fields["num_hidden_layers"]):
        layer = f"model.layers.{i}"
        for block, parts in (("self_attn", attention), ("mlp", mlp)):
            bias = fields.get("attention_bias" if block == "self_attn" else "mlp_bias")
            for part, shape in parts.items():
                shapes[f"{layer}.{block}.{part}.weight"] = shape
                if bias:
                    shapes[f"{layer}.{block}.{part}.bias"] = shape[:1]
        shapes[f"{layer}.input_layernorm.weight"] = (width,)
        shapes[f"{layer}.post_attention_layernorm.weight"] = (width,)
    shapes["model.norm.weight"] = (width,)
    if not fields.get("tie_word_embeddings"):
        shapes["lm_head.weight"] = (rows, width)
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in shapes.items():
        values = rng.standard_normal(shape, np.float32) * scale
        tensors[name] = (values + 1 if "norm" in name else values).astype(kinds[dtype])
    return tensors


def write_safetensors(folder: Path, tensors: dict[str, np.ndarray], shards: int = 1) -> None:
    """Writes tensors as Hugging Face does: one file, or `shards` files and an index."""
    from safetensors.numpy import save_file

    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    for i, names in enumerate(np.array_split(sorted(tensors), shards)):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file({str(n): tensors[n] for n in names}, folder / file, metadata={"format": "pt"})
        weight_map |= {str(n): file for n in names}
    total = sum(t.nbytes for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)


def _write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.fixture
def digest():
    """digest(folder) -> {relative path: sha256}: to show that nothing, or what, changed."""

    def of(folder: Path) -> dict[str, str]:
        files = sorted(p for p in Path(folder).rglob("*") if p.is_file())
        return {
            str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
        }

    return of
