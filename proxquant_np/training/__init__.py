"""The training loop, its checkpoints, and what is measured along the way.

metrics.py     sign changes, quantization gap, errors
checkpoint.py  the file format: written whole or not at all, never unpickled
resume.py      is the run that resumes the one that was saved?
progress.py    progress bars that never make a run fail
history.py     what a run measures
saved_run.py   saving and restoring a run
run.py         the batches and the step of a run
schedules.py   learning rates that depend on what was measured
interrupt.py   Ctrl-C at the end of a step
fit.py         the loop
"""

from proxquant_np.training import metrics as metrics
from proxquant_np.training import resume as resume
from proxquant_np.training.checkpoint import CheckpointError as CheckpointError
from proxquant_np.training.checkpoint import load_checkpoint as load_checkpoint
from proxquant_np.training.checkpoint import save_checkpoint as save_checkpoint
from proxquant_np.training.checkpoint import written_whole as written_whole
from proxquant_np.training.fit import fit as fit
from proxquant_np.training.history import History as History
from proxquant_np.training.schedules import Plateau as Plateau
