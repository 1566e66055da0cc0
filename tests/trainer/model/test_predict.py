# SPDX-License-Identifier: MIT
"""trainer.model.predict: logits and accuracy on a set of pictures."""

import torch

from tests.runs import data, tiny_recipe
from trainer.model.predict import accuracy, predictions


def test_predictions_are_in_order_and_without_gradient(tmp_path):
    student = tiny_recipe(tmp_path).new_student().train()
    pictures = data(11, 4)
    logits = torch.cat(list(predictions(student, pictures, batch=4)))
    assert not logits.requires_grad and not student.training
    with torch.no_grad():
        assert torch.allclose(logits, student(pictures.images), atol=1e-6)
    hits = (logits.argmax(1) == pictures.targets).double().mean().item()
    assert accuracy(student, pictures) == 100 * hits
