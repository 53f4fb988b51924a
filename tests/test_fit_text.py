"""The training loop on a text: chunks in order, state carried and detached, clipping, perplexity.

That such a run resumes to the bit, also when it is killed, is among the cases of test_fit.py.
"""

import contextlib
import math
import sys

import numpy as np
import pytest
from kill_run import TEXT, TEXT_VALIDATION, run, start

import proxquant_np.functional as F
from proxquant_np import models, optim
from proxquant_np.data import Split, chunks, load_text
from proxquant_np.optim import clip_grad_norm
from proxquant_np.training import fit, load_checkpoint, metrics


def read(model, split, columns, length):
    """Mean loss, wrong share: the definition, by one column after the other, token by token."""
    rows = len(split.x) // columns
    losses, wrong = [], []
    for j in range(columns):
        state = None
        for t in range(j * rows, (j + 1) * rows):
            logits, state = model(split.x[t : t + 1, None], state)
            losses.append(F.cross_entropy(logits[0], split.y[t : t + 1]).item())
            wrong.append(logits.data.argmax() != split.y[t])
    return np.mean(losses), np.mean(wrong)


@pytest.mark.parametrize("max_norm", [None, 0.2])
def test_training_is_the_plain_loop(max_norm):
    """Two epochs and a part: no state at the start of each, carried between, never its gradient."""
    model, optimizer = start("text")
    losses, epochs, norms = [], [], []
    pieces = chunks(TEXT, 5, 4)
    assert len(pieces) == 13 and len(pieces[-1].x) == 3
    state = None
    for step in range(30):
        x, y = pieces[step % 13]
        state = None if step % 13 == 0 else tuple(s.detach() for s in state)
        optimizer.zero_grad()
        logits, state = model(x, state)
        loss = F.cross_entropy(F.reshape(logits, (-1, 5)), y.reshape(-1))
        loss.backward()
        norms.append(clip_grad_norm(model.parameters(), max_norm or 1e9))
        optimizer.step()
        losses.append(loss.item())
        if step % 13 == 12:
            model.eval()
            epochs.append(read(model, TEXT_VALIDATION, 5, 4))
            model.train()
    assert min(norms) < 0.2 < max(norms)  # it is clipped at times
    trained, _, history = run("text", steps=30, max_norm=max_norm)
    np.testing.assert_array_equal(history.steps["loss"], losses)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(trained.state_dict()[name], value)
    names = ("validation_loss", "validation_error")
    np.testing.assert_allclose(np.transpose([history.epochs[k] for k in names]), epochs, rtol=1e-5)


def test_quantized_loss_is_that_of_a_projected_copy():
    model, optimizer, history = run("text", steps=13)
    copied = metrics.quantized_copy(model, optimizer.regularizer)
    result = metrics.evaluate(copied, *TEXT_VALIDATION, 5, 4)
    assert (history.epochs["quantized_loss"], history.epochs["quantized_error"]) == (
        [result.loss],
        [result.error],
    )


def test_evaluation_carries_the_state_over_chunks():
    """However the columns are cut, and what fills no row is not counted."""
    model, _ = start("text")
    model.eval()
    wanted = read(model, TEXT_VALIDATION, 3, 1)
    for length in (1, 4, 13, 99):
        result = metrics.evaluate(model, *TEXT_VALIDATION, 3, length)
        assert result == pytest.approx(wanted, rel=1e-5), length
    assert result.perplexity == pytest.approx(math.exp(wanted[0]))
    assert metrics.Evaluation(1e9, 0.0).perplexity == math.inf


def test_it_needs_its_memory():
    """0 1 0 2 repeated, in chunks of one token: what follows 0 is known from the state alone."""
    stream = np.tile([0, 1, 0, 2], 300)
    model = models.LSTMLanguageModel(3, 16, 16, rng=0)
    model.embedding.weight.data *= 10
    optimizer = optim.Adam(model.parameters(), 0.02)
    train = Split(stream[:-1], stream[1:])
    history = fit(
        model, optimizer, train, steps=140, batch_size=4, length=2, validation=train, progress=False
    )
    assert history.steps["loss"][-1] < 0.1 < math.log(2) / 2


def test_progress_shows_perplexity(monkeypatch):
    shown = []

    class Bar(contextlib.ExitStack):
        def set_postfix_str(self, text, refresh):
            shown.append(text)

        def update(self):
            pass

    monkeypatch.setattr(sys.modules[fit.__module__], "progress_bar", lambda *_, **__: Bar())
    for arguments in ({}, {"validation": None}):
        epochs = run("text", steps=13, **arguments)[2].epochs
        value = math.exp(epochs.get("validation_loss", epochs["loss"])[0])
        assert shown.pop().endswith(f"perplexity {value:.3f}")


def test_streams_too_short_are_refused():
    model, optimizer = start("text")
    short = Split(TEXT.x[:4], TEXT.y[:4])
    with pytest.raises(ValueError, match=r"batch_size must be an integer >= 1 and <= 4, got 5"):
        fit(model, optimizer, short, steps=1, batch_size=5, length=2, progress=False)
    with pytest.raises(ValueError, match="at least batch_size=5 tokens"):
        metrics.evaluate(model, *short, 5, 2)


def test_a_numpy_integer_is_a_length(tmp_path):
    """And can be saved as one."""
    model, optimizer = start("text")
    arguments = dict(steps=1, batch_size=2, length=np.int64(2), progress=False)
    fit(model, optimizer, TEXT, checkpoint=tmp_path / "run.npz", **arguments)
    assert load_checkpoint(tmp_path / "run.npz")[1]["identity"]["length"] == 2


def test_chunks_of_one_token_are_accepted():
    model, optimizer = start("text")
    history = fit(model, optimizer, TEXT, steps=2, batch_size=2, length=1, progress=False)
    assert len(history.steps["loss"]) == 2


def test_the_default_text_can_be_learned():
    text = load_text()
    train = Split(*(a[:4096] for a in text.splits.train))
    model = models.LSTMLanguageModel(len(text.vocabulary), 16, 32, rng=0)
    optimizer = optim.Adam(model.parameters(), 0.02)
    history = fit(
        model, optimizer, train, steps=48, batch_size=16, length=16, max_norm=5.0, progress=False
    )
    first, last = (math.exp(history.epochs["loss"][k]) for k in (0, -1))
    assert last < 0.75 * first < 0.75 * len(text.vocabulary)
