"""Train an EAGLE-style draft head for a target checkpoint.

    python -m training.data prepare --input data/corpus/train.parquet --heldout data/corpus/heldout.parquet \\
        --out data/tokens --tokenizer checkpoints/blockffn-22m-docs
    python -m training.train_draft training/configs/shipped_draft.yaml
    python -m training.train_draft CONFIG.yaml --time-limit 120 --set target=CKPT --set out_dir=out/short

The same command resumes an interrupted run from its newest checkpoint; SIGTERM or Ctrl-C saves first. With
--time-limit the run ends after that many seconds (starting up and earlier parts of an interrupted run included): the
learning rate falls to zero there, whatever `steps` says.

Writes out_dir/{metrics.jsonl, tensorboard/, curves.png, checkpoints/, head/, summary.json}; head/ is the head in the published
layout, written with every checkpoint. The last line of stdout is one JSON object.
Exit status  0 finished, or saved after a signal; 1 failed (the last checkpoint stays); 2 bad arguments.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from training.command import config_parser, parsed, run_command
from training.draft_config import DraftTrainConfig

STARTED = time.monotonic()


def parse(argv: list[str] | None) -> tuple[argparse.Namespace, DraftTrainConfig]:
    parser = config_parser("python -m training.train_draft", __doc__, "training/configs/shipped_draft.yaml")
    parser.add_argument("--time-limit", type=float, metavar="SECONDS", help="end the run, in good order, after so long")

    def read(arguments: argparse.Namespace) -> DraftTrainConfig:
        config = DraftTrainConfig.from_yaml(arguments.config, arguments.overrides)
        for key, what in (("target", "the checkpoint to draft for"), ("data", "what `python -m training.data prepare "
                                                                      "--tokenizer TARGET` wrote")):
            if not Path(getattr(config, key)).is_dir() or not getattr(config, key):
                raise ValueError(f"{key}={getattr(config, key)!r}: no such directory; name {what}")
        if arguments.time_limit is not None and not arguments.time_limit > 0:
            raise ValueError(f"--time-limit {arguments.time_limit}: set it above 0")
        return config

    return parsed(parser, argv, read)


def train(config: DraftTrainConfig, time_limit: float | None = None, started: float | None = None) -> dict:
    """Run one training to its end.  ValueError or TrainingStopped holds a sentence for the user."""
    from training.checkpoint import open_checkpoint
    from training.dataset import TokenDataset
    from training.draft_files import tokenizer_sha256
    from training.draft_trainer import DraftTrainer
    from training.parallel import Processes

    checkpoint = open_checkpoint(config.target)
    dataset = TokenDataset(config.data, "train", config.seq_len)
    ours = tokenizer_sha256(checkpoint)
    if ours is not None and dataset.metadata["tokenizer_sha256"] != ours:
        raise ValueError(f"{config.data} was tokenized with another tokenizer than {config.target} has; prepare it with "
                         f"--tokenizer {config.target}")
    if dataset.vocab_size > checkpoint.config.vocab_size:
        raise ValueError(f"{config.data} holds tokens up to {dataset.vocab_size - 1}, the target's vocabulary has "
                         f"{checkpoint.config.vocab_size}; prepare it with --tokenizer {config.target}")
    processes = Processes.start(config.device)
    if processes.world > 1:
        raise ValueError("a draft head is trained by one process; run it without torchrun")
    return DraftTrainer(config, checkpoint, dataset, processes, time_limit, started).run()


def main(argv: list[str] | None = None) -> int:
    arguments, config = parse(argv)
    return run_command(lambda: train(config, arguments.time_limit, STARTED if argv is None else None))


if __name__ == "__main__":
    sys.exit(main())
