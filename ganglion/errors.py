"""Every exception Ganglion raises, drawn once.

    GanglionError                      catch this to catch all of them
    ├── ShapeError        RuntimeError       sizes that do not fit together
    ├── DTypeError        RuntimeError       element types an operation cannot take
    ├── IndexingError     IndexError         an index outside its dimension
    ├── ArgumentError     ValueError         a value outside what an argument allows
    ├── ArgumentTypeError TypeError          an argument of the wrong kind
    ├── AutogradError     RuntimeError       a gradient that cannot be computed
    │   ├── NonFiniteError                   a NaN or an infinity that was watched for
    │   └── GradcheckError                   a gradient that finite differences contradict
    ├── TraceError        RuntimeError       Python that a trace cannot follow
    ├── GraphError        RuntimeError       a graph that breaks its own rules
    ├── DataError         ValueError         a data set or file with wrong contents
    ├── CheckpointError   RuntimeError       a saved run that does not fit the program
    ├── MissingExtraError ImportError        an optional package that is not installed
    └── NotFoundError     FileNotFoundError  a file or folder that is not there

The second column is the builtin each one also is, the one PyTorch raises in the same
place, so programs that catch PyTorch's errors catch these. A message says what was
given, what was expected and what to do.
"""


class GanglionError(Exception):
    """Base of every error raised on purpose by this package."""


class ShapeError(GanglionError, RuntimeError):
    """Shapes do not fit together or do not fit the operation."""


class DTypeError(GanglionError, RuntimeError):
    """An operation cannot take, or cannot produce, this element type."""


class IndexingError(GanglionError, IndexError):
    """A dimension or an index is out of range, or indexes too many dimensions."""


class ArgumentError(GanglionError, ValueError):
    """An argument has the right type and a value that is not allowed."""


class ArgumentTypeError(GanglionError, TypeError):
    """An argument has the wrong type, or arguments do not go together."""


class AutogradError(GanglionError, RuntimeError):
    """A gradient was asked for that does not exist or can no longer be computed."""


class NonFiniteError(AutogradError):
    """A NaN or an infinity appeared where one was being watched for."""


class GradcheckError(AutogradError):
    """A gradient does not equal finite differences, or not twice the same."""


class TraceError(GanglionError, RuntimeError):
    """A traced program does something that only eager Python can do."""


class GraphError(GanglionError, RuntimeError):
    """A graph breaks its own rules, or its text cannot be read: a defect of the compiler."""


class DataError(GanglionError, ValueError):
    """A data file or data set is wrong, truncated or of another kind."""


class CheckpointError(GanglionError, RuntimeError):
    """A saved state is damaged or does not fit the model or optimizer it is loaded into."""


class MissingExtraError(GanglionError, ImportError):
    """An optional package is needed and not installed; the message names the pip command."""


class NotFoundError(GanglionError, FileNotFoundError):
    """A file or folder that the caller named does not exist."""
