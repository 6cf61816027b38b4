"""Reads a model file (JSON) of bench/models and says what a peer needs to build the same shape."""
import dataclasses
import json
import pathlib
import sys


@dataclasses.dataclass(frozen=True)
class Model:
    """The shape of a model that both we and a peer can build; sizes count elements."""
    name: str
    kind: str  # mamba2 or llama
    vocab: int
    width: int
    layers: int
    tied: bool
    norm_eps: float
    # mamba2
    expand: int
    head_dim: int
    state: int
    groups: int
    conv: int
    # llama
    heads: int
    kv_heads: int
    mlp: int
    rope_theta: float

    @property
    def inner(self):
        return self.expand * self.width

    @property
    def ssm_heads(self):
        return self.inner // self.head_dim

    @property
    def conv_channels(self):
        return self.inner + 2 * self.groups * self.state


KINDS = {"mamba2": "mamba2", "attention": "llama"}


def load(path):
    """The Model in a file; ValueError, with the file's name, where a peer cannot run it."""
    path = pathlib.Path(path)
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such model file") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    try:
        return from_config(path.stem, config)
    except KeyError as error:
        raise ValueError(f"{path}: the key {error} is missing") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def from_config(name, config):
    layers = set(config["layer_pattern"])
    if len(layers) != 1 or not layers <= set(KINDS):
        raise ValueError(f"a peer runs patterns of mamba2 alone or of attention alone, found {sorted(layers)}")
    kind = KINDS[layers.pop()]
    if kind == "llama" and config["num_attention_heads"] * config["attention_head_dim"] != config["hidden_size"]:
        raise ValueError("a peer's Llama has num_attention_heads * attention_head_dim = hidden_size")
    return Model(
        name=name, kind=kind, vocab=config["vocab_size"], width=config["hidden_size"],
        layers=config["num_hidden_layers"], tied=config["tie_word_embeddings"], norm_eps=config["rms_norm_eps"],
        expand=config["expand"], head_dim=config["head_dim"], state=config["state_size"], groups=config["n_groups"],
        conv=config["conv_kernel"], heads=config["num_attention_heads"], kv_heads=config["num_key_value_heads"],
        mlp=config["intermediate_size"], rope_theta=config["rope_theta"] or 10000.0)


def load_or_exit(path):
    try:
        return load(path)
    except ValueError as error:
        sys.exit(f"error: {error}")
