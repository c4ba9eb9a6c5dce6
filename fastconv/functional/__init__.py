"""Functions on NumPy arrays, with the names, argument orders and defaults of ``torch.nn.functional``.

Arrays are float32, NCHW, of any strides; results are fresh arrays. Given symbolic tensors, as in the ``forward`` of a
module, the same functions add to the graph instead. A backward pass is ``<function>_backward``, followed by ``_data``,
``_weight`` or ``_bias`` where there are several; it takes ``grad_output`` first.
"""

from fastconv.functional.conv import *  # noqa: F403
from fastconv.graph.gradcheck import GradcheckError as GradcheckError
from fastconv.graph.gradcheck import gradcheck as gradcheck
