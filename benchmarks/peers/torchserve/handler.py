# mypy: ignore-errors
"""Logistic regression as one linear layer; a batch is one call of the model."""

import json
from pathlib import Path

import torch
from ts.torch_handler.base_handler import BaseHandler


class Iris(BaseHandler):
    def initialize(self, context):
        torch.set_num_threads(1)
        raw = json.loads(Path(context.system_properties["model_dir"], "lr.json").read_text())
        self.model = torch.nn.Linear(len(raw["weight"][0]), len(raw["weight"]))
        with torch.no_grad():
            self.model.weight.copy_(torch.tensor(raw["weight"]))
            self.model.bias.copy_(torch.tensor(raw["bias"]))
        self.initialized = True

    def handle(self, data, context):
        rows = [(item.get("body") or item.get("data"))["features"][0] for item in data]
        with torch.inference_mode():
            classes = self.model(torch.tensor(rows)).argmax(dim=1)
        return [{"predictions": [one]} for one in classes.tolist()]
