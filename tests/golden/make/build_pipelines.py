"""Five tiny pipelines in the diffusers folder layout."""

import io
import json
import shutil
import tempfile
import pathlib

import sentencepiece as spm
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel, T5Tokenizer

import texts
from common import Draw, fill_t5, fill_transformer, fill_vae
from profiles import FAMILY, SCHED_COMMON


def fields(blob):
    """Minimal protobuf reader: yields (field number, value) of one message."""
    pos = 0

    def varint():
        nonlocal pos
        value = shift = 0
        while True:
            b = blob[pos]
            pos += 1
            value |= (b & 127) << shift
            shift += 7
            if b < 128:
                return value

    while pos < len(blob):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
        else:
            n = varint() if kind == 2 else (8 if kind == 1 else 4)
            yield key >> 3, blob[pos : pos + n]
            pos += n


def load_spiece(path):
    """pieces with scores, and the precompiled normaliser table, from a spiece.model file."""
    sp = spm.SentencePieceProcessor(model_file=str(path))
    pieces = [(sp.id_to_piece(i), sp.get_score(i)) for i in range(sp.get_piece_size())]
    charsmap = next(
        v for n, spec in fields(pathlib.Path(path).read_bytes()) if n == 3 for m, v in fields(spec) if m == 2
    )
    return pieces, bytes(charsmap)


def train_tokenizer(seed, vocab, folder):
    """SentencePiece unigram model with T5 conventions, plus a transformers tokenizer on top of it."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    blob = io.BytesIO()  # not a file, so that no path ends up in the trainer section of the model
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(texts.corpus(seed)),
        model_writer=blob,
        model_type="unigram",
        vocab_size=vocab,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        pad_piece="<pad>",
        eos_piece="</s>",
        unk_piece="<unk>",
        normalization_rule_name="nmt_nfkc",
        character_coverage=0.9995,
        num_threads=1,
        minloglevel=2,
        hard_vocab_limit=True,
    )
    (folder / "spiece.model").write_bytes(blob.getvalue())
    pieces, charsmap = load_spiece(folder / "spiece.model")
    pieces += [(f"<extra_id_{i}>", 0.0) for i in range(99, -1, -1)]
    tok = T5Tokenizer(vocab=pieces, _spm_precompiled_charsmap=charsmap, extra_ids=100, model_max_length=226)
    tok.save_pretrained(str(folder))
    (folder / "spiece.model").write_bytes(blob.getvalue())
    # files written by older transformers releases and present in the hub folders
    extra = [f"<extra_id_{i}>" for i in range(100)]
    (folder / "added_tokens.json").write_text(
        json.dumps({t: vocab + 99 - i for i, t in enumerate(extra)}, indent=1) + "\n"
    )
    (folder / "special_tokens_map.json").write_text(
        json.dumps(
            {"additional_special_tokens": extra, "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"},
            indent=1,
        )
        + "\n"
    )
    return tok


def transformer_config(variant, size):
    fam = FAMILY[variant]
    return dict(
        num_attention_heads=size["heads"],
        attention_head_dim=64,
        in_channels=fam["in_channels"],
        out_channels=16,
        flip_sin_to_cos=True,
        freq_shift=0,
        time_embed_dim=size["te"],
        ofs_embed_dim=size["te"] if fam["ofs"] else None,
        text_embed_dim=32,
        num_layers=size["layers"],
        dropout=0.0,
        attention_bias=True,
        sample_width=size["sample_w"],
        sample_height=size["sample_h"],
        sample_frames=size["sample_frames"],
        patch_size=2,
        patch_size_t=fam["patch_size_t"],
        temporal_compression_ratio=4,
        max_text_seq_length=size["text_len"],
        activation_fn="gelu-approximate",
        timestep_activation_fn="silu",
        norm_elementwise_affine=True,
        norm_eps=1e-5,
        spatial_interpolation_scale=1.875,
        temporal_interpolation_scale=1.0,
        use_rotary_positional_embeddings=fam["use_rotary_positional_embeddings"],
        use_learned_positional_embeddings=fam["use_learned_positional_embeddings"],
        patch_bias=fam["patch_bias"],
    )


def scrub(folder):
    """No path of the building machine may stay in a config."""
    for p in pathlib.Path(folder).rglob("*.json"):
        if p.name in ("tokenizer.json",) or p.name.endswith(".index.json"):
            continue
        data = json.loads(p.read_text(encoding="utf-8"))
        if isinstance(data, dict):
            for key in ("_name_or_path", "name_or_path", "tokenizer_file", "vocab_file"):
                data.pop(key, None)
            p.write_text(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def build(store, profile, seed):
    out = store.path("pipelines/x").parent
    tokdir = pathlib.Path(tempfile.mkdtemp()) / "tokenizer"
    train_tokenizer(seed, profile["vocab"], tokdir)
    for variant, size in profile["variants"].items():
        fam = FAMILY[variant]
        draw = Draw(seed, "weights", variant)
        dtype = getattr(torch, size["store"])
        tr = CogVideoXTransformer3DModel(**transformer_config(variant, size)).float()
        fill_transformer(tr, draw)
        v = profile["vae"]
        vae = AutoencoderKLCogVideoX(
            in_channels=3,
            out_channels=3,
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=tuple(v["channels"]),
            latent_channels=16,
            layers_per_block=v["layers_per_block"],
            act_fn="silu",
            norm_eps=1e-6,
            norm_num_groups=v["groups"],
            temporal_compression_ratio=4,
            sample_height=480,
            sample_width=720,
            scaling_factor=fam["scaling"],
            invert_scale_latents=fam["invert"],
        )
        fill_vae(vae, draw)
        t = profile["t5"]
        te = T5EncoderModel(
            T5Config(
                vocab_size=profile["vocab"] + 128,
                d_model=32,
                d_kv=t["d_kv"],
                d_ff=t["d_ff"],
                num_layers=t["layers"],
                num_heads=t["heads"],
                relative_attention_num_buckets=32,
                relative_attention_max_distance=128,
                feed_forward_proj="gated-gelu",
                dropout_rate=0.1,
                layer_norm_epsilon=1e-6,
                pad_token_id=0,
                eos_token_id=1,
                decoder_start_token_id=0,
                tie_word_embeddings=False,
            )
        )
        fill_t5(te, draw)
        tok = T5Tokenizer.from_pretrained(str(tokdir))
        sched = CogVideoXDDIMScheduler(**SCHED_COMMON, snr_shift_scale=size["snr"] or fam["snr"])
        cls = CogVideoXImageToVideoPipeline if fam["i2v"] else CogVideoXPipeline
        encoders = getattr(torch, profile["encoders"]) if profile["encoders"] else dtype
        pipe = cls(
            tokenizer=tok, text_encoder=te.to(encoders), vae=vae.to(encoders), transformer=tr.to(dtype), scheduler=sched
        )
        folder = out / (profile["prefix"] + variant)
        if folder.exists():
            shutil.rmtree(folder)
        pipe.save_pretrained(str(folder))
        if size["shard"]:
            shutil.rmtree(folder / "transformer")
            tr.save_pretrained(str(folder / "transformer"), max_shard_size=size["shard"])
        for f in tokdir.iterdir():
            shutil.copy(f, folder / "tokenizer" / f.name)
        if not size["tokenizer_json"]:
            (folder / "tokenizer" / "tokenizer.json").unlink()
        scrub(folder)
        files = {str(p.relative_to(folder)): p.stat().st_size for p in sorted(folder.rglob("*")) if p.is_file()}
        store.cases.append(
            {
                "name": profile["prefix"] + variant,
                "group": "pipelines",
                "file": f"pipelines/{profile['prefix']}{variant}/model_index.json",
                "checks": "diffusers folder layout, config parsing, weight loading",
                "weights_dtype": size["store"],
                "config": transformer_config(variant, size),
                "files": files,
                "transformer_parameters": sum(p.numel() for p in tr.parameters()),
                "vae_parameters": sum(p.numel() for p in vae.parameters()),
            }
        )


class Parts:
    """Components of one pipeline, loaded back from disk (so stored rounding is included)."""

    def __init__(self, store, profile, variant, dtype=torch.float32):
        folders = [store.out / "pipelines" / (profile["prefix"] + name) for name in (variant, *profile["variants"])]
        self.folder, self.first, self.dtype, self.variant = folders[0], folders[1], dtype, variant
        self.fam, self.size = FAMILY[variant], profile["variants"][variant]

    def transformer(self):
        return (
            CogVideoXTransformer3DModel.from_pretrained(str(self.folder / "transformer"), torch_dtype=torch.float32)
            .to(self.dtype)
            .eval()
        )

    def vae(self):
        return (
            AutoencoderKLCogVideoX.from_pretrained(str(self.folder / "vae"), torch_dtype=torch.float32)
            .to(self.dtype)
            .eval()
        )

    def text_encoder(self):
        return (
            T5EncoderModel.from_pretrained(str(self.folder / "text_encoder"), dtype=torch.float32).to(self.dtype).eval()
        )

    def tokenizer(self):
        """All pipelines have the same; only the first is sure to have the `tokenizer.json` that transformers reads."""
        return T5Tokenizer.from_pretrained(str(self.first / "tokenizer"))

    def scheduler(self, cls):
        return cls.from_pretrained(str(self.folder / "scheduler"))
