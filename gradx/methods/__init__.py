"""What a tensor can do, by kind; `gradx.Tensor` is the sum. Ordinary definitions, so that type checkers see them."""
