import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fouroptics.errors import InputError
from fouroptics.optics import combine


@given(st.floats(0, 2 * math.pi), st.floats(0, 1))
def test_two_arms_give_one_plus_v_cos_phi(phase, visibility):
    arms = torch.stack([torch.ones(1, 1), torch.exp(1j * torch.tensor(phase, dtype=torch.float64)).reshape(1, 1)])
    seen = combine.interference(arms.to(torch.complex128), visibility=visibility)
    assert seen.item() == pytest.approx(1 + visibility * math.cos(phase), abs=1e-12)


@given(st.integers(1, 30))
def test_a_passive_n_to_1_sum_keeps_one_nth_of_one_beam_and_all_of_a_matched_set(n):
    one = torch.zeros(n, 1, 1, dtype=torch.complex128)
    one[0] = 1
    assert combine.coherent_sum(one).abs().square().item() == pytest.approx(1 / n)
    matched = torch.full((n, 1, 1), 1 / math.sqrt(n), dtype=torch.complex128)
    assert combine.coherent_sum(matched).abs().square().item() == pytest.approx(1)


def test_a_row_is_one_row_of_a_unitary():
    beams = torch.randn(5, 4, 3, 3, dtype=torch.complex128)
    unitary, _ = torch.linalg.qr(torch.randn(4, 4, dtype=torch.complex128))
    outputs = torch.stack([combine.coherent_sum(beams, row) for row in unitary], 1)
    torch.testing.assert_close(outputs, torch.einsum("on,bnyx->boyx", unitary, beams))
    torch.testing.assert_close(outputs.abs().square().sum(), beams.abs().square().sum())


def test_errors_of_amplitude_and_phase_stay_passive():
    row = combine.equal_row(3)
    erring = combine.imperfect_row(
        row, amplitude_error=torch.tensor([0.1, 0.0, -0.1]), phase_error=torch.tensor([0.0, 0.5, 0.0])
    )
    assert erring.abs().square().sum() <= 1 + 1e-12
    assert (erring[0] / erring[2]).abs().item() == pytest.approx(1.1 / 0.9)
    assert erring[1].angle().item() == pytest.approx(0.5)
    torch.testing.assert_close(combine.imperfect_row(row / 2).real, row / 2)  # light that is lost stays lost
    assert combine.imperfect_row(row, amplitude_error=0.3).abs().square().sum().item() == pytest.approx(1)


def test_a_row_that_makes_light_is_refused():
    beams = torch.ones(2, 1, 1, dtype=torch.complex64)
    with pytest.raises(InputError, match="passive"):
        combine.coherent_sum(beams, torch.ones(2))
    with pytest.raises(InputError, match="weights"):
        combine.coherent_sum(beams, torch.ones(3) / 3)
    assert combine.mathematical_sum(beams).item() == 2


def test_gradients_and_permutation():
    beams = torch.randn(2, 3, 2, 2, dtype=torch.complex128, requires_grad=True)
    error = torch.tensor([0.05, -0.02, 0.01], dtype=torch.float64, requires_grad=True)
    visibility = torch.tensor(0.9, dtype=torch.float64, requires_grad=True)

    def whole(beams, error, phase, visibility):
        row = combine.imperfect_row(combine.equal_row(3), amplitude_error=error, phase_error=phase)
        return combine.interference(beams, row, visibility=visibility)

    assert torch.autograd.gradcheck(whole, (beams, error, error.detach().clone().requires_grad_(), visibility))
    assert torch.equal(combine.coherent_sum(beams[[1, 0]]), combine.coherent_sum(beams)[[1, 0]])
