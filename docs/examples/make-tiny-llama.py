#!/usr/bin/env python3
"""Write a tiny Llama without weights: make-tiny-llama.py DIR

The tokenizer is a byte-level BPE of 8,192 tokens, trained on Python's own standard library, so nothing is downloaded.
Servers start it with random weights (vLLM: --load-format dummy). Needs the package `tokenizers`, which vLLM brings.
head_dim is 32 because vLLM's CPU attention kernel takes only some sizes.
"""
import glob
import json
import os
import sys
import sysconfig

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = """{%- for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    files = sorted(glob.glob(sysconfig.get_paths()["stdlib"] + "/*.py"))
    trainer = trainers.BpeTrainer(
        vocab_size=8192 - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train(files, trainer)
    plain = json.loads(made.to_str())
    first = len(plain["model"]["vocab"])
    ids = {text: first + n for n, text in enumerate(SPECIAL)}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    plain["added_tokens"] = [{"id": number, "content": text, **flags} for text, number in ids.items()]
    return plain, ids


def main(folder):
    tokens, ids = tokenizer()
    end, start = ids["<|im_end|>"], ids["<|endoftext|>"]
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "vocab_size": 8192,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": start,
        "eos_token_id": end,
    }
    files = {
        "tokenizer.json": tokens,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "chat_template": TEMPLATE,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": 4096,
            "clean_up_tokenization_spaces": False,
        },
        "config.json": config,
        "generation_config.json": {"bos_token_id": start, "eos_token_id": [end, start]},
    }
    os.makedirs(folder, exist_ok=True)
    for name, content in files.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False, indent=1)
    print(f"wrote {folder}: {len(tokens['model']['vocab']) + len(ids)} tokens, no weights")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
