"""What is wrong with a data set, found by looking at every image.

Own code beside cleanvision, which was tried: it opens each image as a file or by Pillow, one at a
time; its near copies are equal hashes alone, which on Fashion-MNIST's small gray images are mostly
other garments; and it knows no splits (docs/results/audit.md has the figures).
"""
