"""One answer of a model as cells of a table, as plain values, and in words."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dlkit.core.evaluation import Answer


def cells_of(answer: "Answer", shares_of: tuple[str, ...]) -> list[str]:
    """Returns the likeliest class with its probability and those of these classes, the labels with theirs or the classes of pixels with
    their shares, parted by `;`, or the values.
    """
    if (several := answer.pixels if answer.labels is None else answer.labels) is not None:
        return [";".join(name for name, _ in several), ";".join(f"{value:.6g}" for _, value in several)]
    if answer.classes:
        name, probability = answer.classes[0]
        shares = dict(answer.classes)
        return [name, f"{probability:.6g}", *(f"{shares[other]:.6g}" for other in shares_of)]
    return [f"{value:.9g}" for value in answer.values]


def ranked(answer: "Answer") -> tuple[str, str]:
    """Returns the best in words, and the others."""
    if answer.labels is not None:
        return ", ".join(f"{name} {value:.1%}" for name, value in answer.labels) or "no label", ""
    if answer.pixels is not None:
        first, *others = (f"{name} {value:.1%}" for name, value in answer.pixels)
        return first, ", ".join(others)
    words = [f"{name} {value:.1%}" for name, value in answer.classes] or [f"{value:.5g}" for value in answer.values]
    return words[0], ", ".join(words[1:])


def facts_of(answer: "Answer") -> dict[str, Any]:
    """Returns what JSON tells of an answer."""
    if answer.problem:
        return {"error": answer.problem}
    if answer.labels is not None:
        return {"labels": [{"label": name, "probability": value} for name, value in answer.labels]}
    if answer.pixels is not None:
        return {"pixels": [{"class": name, "share": value} for name, value in answer.pixels]}
    classes = [{"class": name, "probability": value} for name, value in answer.classes]
    return {"predictions": classes} if classes else {"values": answer.values}
