"""Losses by hand: sums over classes written out, gradients at their limits, and what two classes leave of each."""

import math

import pytest
import torch
from fouroptics.models.training import distillation_loss
from fouroptics.models.training.distill import hard_loss

import fouroptics as fo


def scores(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def softmax(values, temperature=1.0):
    weights = [math.exp(v / temperature) for v in values]
    return [w / sum(weights) for w in weights]


def divergence(due, said):
    return sum(p * math.log(p / q) for p, q in zip(due, said, strict=True) if p > 0)


def by_hand(student, teacher, labels, temperature, hard_weight, soft):
    """Means over samples of hard_weight · (-log p_label) + (1 - hard_weight) · T² · what ``soft`` makes of both."""
    total = 0.0
    for s, t, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        total += hard_weight * -math.log(softmax(s)[label]) + (1 - hard_weight) * temperature**2 * soft(s, t, label)
    return total / len(labels)


@pytest.mark.parametrize(("temperature", "hard_weight"), [(1.0, 0.5), (4.0, 0.1), (10.0, 0.0), (2.0, 1.0)])
def test_distillation_is_equation_8(temperature, hard_weight):
    student, teacher, labels = scores(0, 6, 5), scores(1, 6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    found = distillation_loss(student, teacher, labels, temperature=temperature, hard_weight=hard_weight)
    due = by_hand(
        student, teacher, labels, temperature, hard_weight,
        lambda s, t, _: divergence(softmax(t, temperature), softmax(s, temperature)),
    )  # fmt: skip
    assert float(found) == pytest.approx(due, rel=1e-12)


def test_one_score_a_picture_is_refused():
    with pytest.raises(fo.InputError, match="one score a picture tells no classes apart here; a score a class"):
        distillation_loss(scores(0, 4, 1), scores(1, 4, 1), torch.tensor([0, 1, 0, 1]))


def test_the_square_of_the_temperature_keeps_the_size_of_the_gradient():
    """For large T it tends to the gradient of half the squared distance of centred scores over the classes."""
    student, teacher = scores(0, 3, 5).requires_grad_(), scores(1, 3, 5)
    loss = distillation_loss(student, teacher, torch.zeros(3).long(), temperature=1e4, hard_weight=0.0)
    (found,) = torch.autograd.grad(loss, student)
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    assert torch.allclose(found, centred.detach() / 5 / 3, rtol=1e-3, atol=1e-4)


def test_a_decoupled_loss_weighs_the_others_among_themselves():
    student, teacher, labels = scores(0, 4, 5), scores(1, 4, 5), torch.tensor([0, 1, 2, 4])

    def soft(s, t, label, temperature=3.0, alpha=1.5, beta=6.0):
        said, due = softmax(s, temperature), softmax(t, temperature)
        target = divergence([due[label], 1 - due[label]], [said[label], 1 - said[label]])
        rest = [k for k in range(5) if k != label]
        others = divergence([due[k] / (1 - due[label]) for k in rest], [said[k] / (1 - said[label]) for k in rest])
        return alpha * target + beta * others

    found = distillation_loss(
        student, teacher, labels, kind="dkd", temperature=3.0, hard_weight=0.2, alpha=1.5, beta=6.0
    )
    assert float(found) == pytest.approx(by_hand(student, teacher, labels, 3.0, 0.2, soft), rel=1e-10)


def test_with_alpha_and_beta_of_plain_distillation_it_is_that():
    """KL = target's part + (1 - p_target) · the others' part: for one sample, β = 1 - p_target."""
    student, teacher, label = scores(0, 1, 5), scores(1, 1, 5), torch.tensor([2])
    share = float((teacher / 2.0).softmax(1)[0, 2])
    plain = distillation_loss(student, teacher, label, temperature=2.0, hard_weight=0.0)
    apart = distillation_loss(
        student, teacher, label, kind="dkd", temperature=2.0, hard_weight=0.0, alpha=1.0, beta=1 - share
    )
    assert float(apart) == pytest.approx(float(plain), rel=1e-10)


def test_standardised_scores_know_no_scale():
    student, teacher, labels = scores(0, 6, 5), scores(1, 6, 5), torch.zeros(6).long()
    due = distillation_loss(student, teacher, labels, kind="logit-std", hard_weight=0.0)
    found = distillation_loss(3 * student + 7, 0.2 * teacher - 1, labels, kind="logit-std", hard_weight=0.0)
    assert float(found) == pytest.approx(float(due), rel=1e-5)
    assert float(due) > 0


def test_functions_are_matched_without_labels():
    student, teacher = scores(0, 6, 5), scores(1, 6, 5)
    found = distillation_loss(student, teacher, None, kind="function-matching")
    due = sum(divergence(softmax(t), softmax(s)) for s, t in zip(student.tolist(), teacher.tolist(), strict=True))
    assert float(found) == pytest.approx(due / 6, rel=1e-12)
    assert float(distillation_loss(teacher, teacher, None, kind="function-matching")) == pytest.approx(0, abs=1e-15)


def test_pixels_without_a_class_count_nothing():
    student, teacher = scores(0, 2, 4, 3, 3), scores(1, 2, 4, 3, 3)
    labels = torch.randint(0, 4, (2, 3, 3), generator=torch.Generator().manual_seed(0))
    labels[0, :2] = 255
    found = distillation_loss(student, teacher, labels, kind="pixel-kd", temperature=2.0, hard_weight=0.3)
    seen = labels != 255
    flat = [one.permute(0, 2, 3, 1)[seen] for one in (student, teacher)]
    due = distillation_loss(*flat, labels[seen], temperature=2.0, hard_weight=0.3)
    assert float(found) == pytest.approx(float(due), rel=1e-12)


def test_one_score_a_pixel_is_a_probability_of_two():
    student, teacher = scores(0, 2, 1, 3, 3), scores(1, 2, 1, 3, 3)
    labels = torch.randint(0, 2, (2, 3, 3), generator=torch.Generator().manual_seed(0))
    both = [torch.cat((torch.zeros_like(one), one), 1) for one in (student, teacher)]
    for hard_weight in (0.0, 1.0, 0.4):
        found, due = (
            distillation_loss(*pair, labels, kind="pixel-kd", temperature=3.0, hard_weight=hard_weight)
            for pair in ((student, teacher), both)
        )
        assert float(found) == pytest.approx(float(due), rel=1e-12)


def test_labels_alone_may_be_smoothed():
    student, labels = scores(0, 6, 5), torch.tensor([0, 1, 2, 3, 4, 0])
    due = sum(
        -sum((0.9 * (k == label) + 0.1 / 5) * math.log(p) for k, p in enumerate(softmax(s)))
        for s, label in zip(student.tolist(), labels.tolist(), strict=True)
    )
    assert float(hard_loss(student, labels, 0.1)) == pytest.approx(due / 6, rel=1e-12)


@pytest.mark.parametrize("kind", ["dkd", "logit-std"])
def test_what_two_classes_leave_nothing_of_is_refused(kind):
    with pytest.raises(fo.InputError, match=f'distill.loss: {kind} of 2 classes: .*; loss = "kd"'):
        distillation_loss(scores(0, 3, 2), scores(1, 3, 2), torch.zeros(3).long(), kind=kind)


def test_scores_of_other_classes_are_refused():
    with pytest.raises(fo.InputError, match=r"the student's scores are \[3, 5\], the teacher's \[3, 4\]"):
        distillation_loss(scores(0, 3, 5), scores(1, 3, 4), torch.zeros(3).long())
    with pytest.raises(fo.InputError, match="loss: 'kdd' is unknown"):
        distillation_loss(scores(0, 3, 5), scores(1, 3, 5), torch.zeros(3).long(), kind="kdd")
    with pytest.raises(fo.InputError, match="labels are missing"):
        distillation_loss(scores(0, 3, 5), scores(1, 3, 5), None)


def test_functions_are_matched_on_pixels_that_have_a_class():
    """So parts of a batch, weighed by such pixels, sum up to it."""
    student, teacher = scores(0, 2, 3, 4, 4), scores(1, 2, 3, 4, 4)
    labels = torch.zeros(2, 4, 4, dtype=torch.long)
    labels[0, :3], labels[1, 2:] = 255, 255
    whole, *parts = (
        float(distillation_loss(student[i], teacher[i], labels[i], kind="function-matching"))
        for i in (slice(None), slice(0, 1), slice(1, 2))
    )
    assert whole == pytest.approx((4 * parts[0] + 8 * parts[1]) / 12)


def test_class_255_of_many_is_a_class():
    student = scores(0, 3, 300).requires_grad_()
    hard_loss(student, torch.tensor([255, 255, 255])).backward()
    assert student.grad[:, 255].abs().min() > 0


def test_pixels_of_which_none_has_a_class_give_nothing():
    student, teacher = scores(0, 2, 4, 3, 3).requires_grad_(), scores(1, 2, 4, 3, 3)
    loss = distillation_loss(student, teacher, torch.full((2, 3, 3), 255), kind="pixel-kd")
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(student.grad.abs().max()) == 0
    with pytest.raises(fo.InputError, match="dkd is of pictures, these are pixels"):
        distillation_loss(student, teacher, torch.zeros(2, 3, 3).long(), kind="dkd")
