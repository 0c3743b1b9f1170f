"""Optimizers and learning rate schedules, under PyTorch's names."""

from ganglion.optim import lr_scheduler
from ganglion.optim.optimizer import Optimizer
from ganglion.optim.optimizers import SGD, Adagrad, Adam, AdamW, RMSprop

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
