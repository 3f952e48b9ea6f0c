"""What is wrong with a data set, found by looking at every image.

Own code beside cleanvision, which was tried: it opens images one at a time by Pillow, its near
copies are equal hashes alone (on Fashion-MNIST 898 pairs, nearly all of them other garments), and
it knows no splits: docs/results/audit.md.
"""
