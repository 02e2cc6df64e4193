"""Draft heads for the runner's tests: random, or with a little training so that some drafts are accepted."""

import torch
import torch.nn.functional as F

from export.draft_decoder import DraftDecoder
from export.lower import lower
from training.attention import rope_tables
from training.checkpoint import open_checkpoint
from training.draft import DraftConfig, DraftHead, draft_embedding
from training.draft_files import Draft
from training.model import CausalLM

SIZES = dict(num_hidden_layers=1, intermediate_size=96, num_attention_heads=4, num_key_value_heads=2, head_dim=12)


class Reference:
    """A checkpoint and a head in float32, over whole sequences."""

    def __init__(self, checkpoint_dir, draft_vocab=240, steps=0, seed=0):
        self.target = open_checkpoint(checkpoint_dir)
        self.model = CausalLM.from_checkpoint(self.target)
        config = DraftConfig(self.target.config, **SIZES)
        self.remap = torch.randperm(config.vocab_size, generator=torch.Generator().manual_seed(seed))[:draft_vocab]
        self.head = DraftHead(config, self.remap)
        self.head.init_weights(seed)
        if steps:
            self._train(steps, seed)
        self.head.requires_grad_(False)

    def _rope(self, length):
        return rope_tables(self.head.config, length, torch.device("cpu"))

    def _train(self, steps, seed):
        """Towards the target's own choices on texts that it continues."""
        torch.manual_seed(seed)
        ids = torch.randint(3, self.model.config.vocab_size, (48, 6))
        with torch.no_grad():
            for _ in range(42):
                logits = self.model.logits(self.model(ids).hidden[:, -1])
                greedy = torch.rand(48) < 0.7
                token = torch.where(greedy, logits.argmax(-1), torch.distributions.Categorical(logits=logits).sample())
                ids = torch.cat([ids, token[:, None]], 1)
            hidden = self.model(ids).hidden
            labels = self.model.logits(hidden).argmax(-1)  # of token t + 1 at position t
        place = torch.full((self.model.config.vocab_size,), -100)
        place[self.remap] = torch.arange(len(self.remap))
        optimizer = torch.optim.Adam(self.head.parameters(), lr=5e-3)
        for _ in range(steps):
            h = self.head(draft_embedding(ids[:, 1:], self.model, hidden.dtype), hidden[:, :-1], self._rope(ids.shape[1] - 1))
            # Rows that were made of the head's own output, as in a draft's second step.
            again = self.head(draft_embedding(ids[:, 2:], self.model, hidden.dtype), h[:, :-1], self._rope(ids.shape[1] - 2))
            loss = sum(F.cross_entropy(self.logits(out).flatten(0, 1), place[labels[:, -out.shape[1]:]].flatten()) for out in (h, again))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def logits(self, h):
        return F.linear(self.model.head_input(h), self.model.head_weight[self.remap])

    def hidden(self, ids):
        return self.model(torch.tensor([ids])).hidden[0]

    def rows(self, ids, hidden_TD):
        """h of head rows made of ids[1:] and hidden_TD, one more row of ids than of hidden states."""
        e = draft_embedding(torch.tensor([ids[1:]]), self.model, torch.float32)
        return self.head(e, hidden_TD[None], self._rope(len(ids) - 1))[0]

    def export(self, path, quant="fp32", max_context=160):
        tensors = {name: tensor.detach() for name, tensor in self.head.state_dict().items()}
        lower(DraftDecoder(Draft(path, self.head.config, tensors), self.target, quant, max_context), str(path))
        return path

    def tree(self, context, hidden_TD, width, depth, most):
        """{path of tokens: probability} of the best nodes, by plain recursion over whole sequences."""
        nodes, last_row = {}, self.rows(context, hidden_TD)[-1]  # path -> (probability, h of the row that ends with it)

        def children(path):
            hidden = list(hidden_TD)
            if path:  # a row of the tree is fed the h of its parent, the first one that of the text's last row
                hidden += [last_row, *(nodes[path[:i]][1] for i in range(1, len(path)))]
            h = self.rows([*context, *path], torch.stack(hidden))[-1]
            if path:
                nodes[path] = nodes[path][0], h
            p = self.logits(h).softmax(-1)
            top = p.topk(width)
            for value, w in zip(top.values.tolist(), top.indices.tolist()):
                nodes[(*path, int(self.remap[w]))] = (nodes[path][0] if path else 1.0) * value, None

        children(())
        for level in range(1, depth):
            at = sorted((path for path in nodes if len(path) == level), key=lambda path: -nodes[path][0])[:width]
            for path in at:
                children(path)
        best = sorted(nodes, key=lambda path: (-nodes[path][0], len(path)))[:most]
        return {path: nodes[path][0] for path in best}
