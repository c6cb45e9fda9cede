"""Forward rules: passes of their own in which chosen operations pass on another gradient than their own.

LRP and DeepLIFT need an operation's inputs, which autograd does not keep. A function mode sees every call of a pass
of its own, and gives each operation the gradient that the method's rule asks for; what the pass computes is unchanged.
"""

from sightline.propagation.mode import Call, ForwardRule, Pass, Propagated

__all__ = ["Call", "ForwardRule", "Pass", "Propagated"]
