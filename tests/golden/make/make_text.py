"""Tokenizer cases and T5 embeddings."""

import sentencepiece as spm
import torch

import texts
from build_pipelines import Parts
from common import both


def slow_ids(sp, text, length):
    ids = sp.encode(text)[: length - 1] + [1]
    return ids + [0] * (length - len(ids))


def build(store, profile, seed):
    names = list(profile["variants"])
    parts = Parts(store, profile, names[0])
    tok = parts.tokenizer()
    sp = spm.SentencePieceProcessor(model_file=str(parts.folder / "tokenizer" / "spiece.model"))
    lengths = profile["token_lengths"]
    cases, differ = [], 0
    for text in texts.prompts(seed):
        row = {"prompt": text, "codepoints": [ord(c) for c in text] if len(text) < 60 and not text.isascii() else None}
        n = len(tok(text, add_special_tokens=False).input_ids)
        row["tokens"] = n
        row["truncated_at_226"] = n > 225
        for length in lengths:
            ids = tok(text, padding="max_length", max_length=length, truncation=True, add_special_tokens=True).input_ids
            assert len(ids) == length
            if length == 226:
                row["ids_226"] = ids[: ids.index(1) + 1] if 1 in ids else ids
                row["pad_226"] = length - len(row["ids_226"])
                full = row["ids_226"] + [0] * row["pad_226"]
                if full != ids:  # a literal special token inside the prompt
                    row["ids_226"], row["pad_226"] = ids, 0
                raw = slow_ids(sp, text, length)
                if raw != ids:
                    row["plain_sentencepiece_ids"] = [i for i in raw[: raw.index(1) + 1]]
                    differ += 1
            else:
                row[f"ids_{length}"] = ids
        cases.append(row)
    store.json(
        "text/tokenizer.json",
        "tokenizer cases",
        "ids_226 followed by pad_226 zeros = ids padded/truncated to 226 (transformers T5 tokenizer); "
        "plain_sentencepiece_ids is given "
        "where the bare SentencePiece library (no special-token handling) disagrees",
        {
            "pipeline": profile["prefix"] + names[0],
            "pad": 0,
            "eos": 1,
            "unk": 2,
            "pieces": sp.get_piece_size(),
            "vocabulary_with_extra_ids": sp.get_piece_size() + 100,
            "cases": cases,
        },
        extra={"count": len(cases), "cases_where_plain_sentencepiece_differs": differ},
    )
    for variant in (names[0], names[1]):
        parts = Parts(store, profile, variant)
        prompts = ["", "a red fox", *texts.plain(f"{seed}-{variant}", 3), " ".join(texts.plain(f"{seed}-long", 30))]
        length = parts.size["text_len"]
        ids = torch.tensor(
            [
                tok(p, padding="max_length", max_length=length, truncation=True, add_special_tokens=True).input_ids
                for p in prompts
            ]
        )

        def run(dtype):
            parts.dtype = dtype
            te = parts.text_encoder()
            seen = {}
            hooks = [
                blk.register_forward_hook(
                    lambda m, a, o, i=i: seen.__setitem__(f"block.{i}", o[0] if isinstance(o, tuple) else o)
                )
                for i, blk in enumerate(te.encoder.block)
            ]
            with torch.no_grad():
                out = te(ids)[0]
            for h in hooks:
                h.remove()
            return {"embeddings": out, **{k: v[2:3] for k, v in seen.items()}}

        ref, o32 = both(run)
        store.add(
            f"text/t5-{variant}.safetensors",
            f"T5 embeddings {variant}",
            "last_hidden_state without attention mask; block.i = residual stream after block i for prompt 2",
            {"ids": ids, **ref},
            {"pipeline": profile["prefix"] + variant, "prompts": prompts, "length": length},
            o32,
        )
