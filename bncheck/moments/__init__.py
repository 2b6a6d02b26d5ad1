"""What a graph's weights say about the mean of each value in it, without any data.

A BatchNorm's output has, in channel c, the mean ``bias[c]`` and the standard deviation
``|weight[c]|``: that is what its running statistics are for. From there the mean can be followed,
through activations (the distribution is taken for normal), convolutions, linear layers, additions
and concatenations, to the input of the next BatchNorm, whose running_mean it must be. Nagel et al.,
Data-Free Quantization, arXiv:1906.04721, section 4.2 and appendix C, estimate biases in this way.

What cannot be followed is not guessed: a value without a prediction has none. This package needs
numpy; nothing imports it before a rule that needs it runs.
"""
