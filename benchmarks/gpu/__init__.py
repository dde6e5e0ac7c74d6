"""What the kernels take on a CUDA device, beside what a user would do today. Run by `make gpu`."""
