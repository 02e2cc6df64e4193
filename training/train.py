"""Train a BlockFFN language model, or its dense twin, from one configuration file.

    python -m training.train training/configs/shipped.yaml
    python -m training.train CONFIG.yaml --set steps=200 --set out_dir=out/short --set model.num_experts=32
    torchrun --nproc-per-node 4 -m training.train CONFIG.yaml --set parallel=fsdp
    python -m training.train training/configs/blockffn_0.1b.yaml --benchmark 30

The data directory (key `data`) is written by `python -m training.data prepare`.  The same command
resumes an interrupted run from its newest checkpoint.  SIGTERM or Ctrl-C saves first.  --benchmark N
times N steps on random tokens, without data or output files.

Writes out_dir/{metrics.jsonl, tensorboard/, curves.png, checkpoints/, final/, summary.json};
final/ is a Hugging Face style checkpoint.  The last line of stdout is one JSON object.
Exit status  0 finished, or saved after a signal; 1 failed (the last checkpoint stays); 2 bad arguments.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.command import config_parser, parsed, run_command
from training.train_config import TrainConfig


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, TrainConfig]:
    parser = config_parser("python -m training.train", __doc__, "training/configs/")
    parser.add_argument("--benchmark", type=int, metavar="STEPS", help="time STEPS training steps on random tokens")

    def read(arguments: argparse.Namespace) -> TrainConfig:
        config = TrainConfig.from_yaml(arguments.config, arguments.overrides)
        if arguments.benchmark is None and not Path(config.data).is_dir():
            raise ValueError(f"data={config.data!r}: no such directory; write it with "
                             "`python -m training.data prepare`")
        if arguments.benchmark is not None and arguments.benchmark < 1:
            raise ValueError(f"--benchmark {arguments.benchmark}: use at least 1 step")
        return config

    return parsed(parser, argv, read)


def train(config: TrainConfig) -> dict | None:
    """Run one training to its end; the main process returns the summary.

    ValueError or TrainingStopped holds a sentence for the user.
    """
    from training.dataset import TokenDataset, window_order
    from training.parallel import Processes
    from training.trainer import Trainer

    dataset = TokenDataset(config.data, "train", config.seq_len)
    if dataset.vocab_size > config.model.vocab_size:
        raise ValueError(f"model.vocab_size={config.model.vocab_size}: the data's tokenizer has {dataset.vocab_size} "
                         f"entries; set model.vocab_size={dataset.vocab_size}")
    has_heldout = dataset.metadata["splits"]["heldout"]["tokens"] > 1
    heldout = TokenDataset(config.data, "heldout", config.seq_len) if has_heldout else None
    if config.tokenizer is not None:
        tokenizer_dir = Path(config.tokenizer)
    else:
        tokenizer_dir = Path(config.data) / "tokenizer"
        tokenizer_dir = tokenizer_dir if tokenizer_dir.is_dir() else None
    processes = Processes.start(config.device)
    try:
        summary = Trainer(config, processes, dataset, heldout, window_order, tokenizer_dir).run()
        return summary if processes.is_main else None
    finally:
        processes.stop()


def main(argv: list[str] | None = None) -> int:
    arguments, config = parse(argv)

    def body() -> dict | None:
        if arguments.benchmark is None:
            return train(config)
        from training.benchmark import benchmark
        return benchmark(config, arguments.benchmark)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
