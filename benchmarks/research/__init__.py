"""Techniques of training on trial for benchmarks.ablation, a file a family; none is in the product.

They hook in at the registries (MODELS, OPTIMIZERS) and at public names of fmnist.training.loop.
"""
