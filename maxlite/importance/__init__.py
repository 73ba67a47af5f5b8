"""How much each layer, group of heads, FFN channel and residual channel of a model matters."""
