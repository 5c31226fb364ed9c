"""Aurora under the Trainer of transformers, here with a small Llama that learns to count.

The Trainer makes AdamW itself unless it is given an optimizer and a scheduler.
"""

import argparse
import os
import tempfile

if "OMP_WAIT_POLICY" not in os.environ:  # threads that wait sleep soon, so a busy machine costs little
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments, get_cosine_schedule_with_warmup

from aurora_optim import Aurora

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=60)
steps = parser.parse_args().steps

torch.manual_seed(0)
model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
)
optimizer = Aurora(model, lr=0.02, adamw_lr=3e-3)
scheduler = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=steps // 10, num_training_steps=steps)
rows = [{"input_ids": row, "labels": row} for row in ((torch.arange(24) + i) % 64 for i in range(64))]

with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=16,
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
        ),
        train_dataset=rows,
        optimizers=(optimizer, scheduler),
    )
    trainer.train()
print(f"loss {trainer.state.log_history[-1]['train_loss']:.4f}")
