"""The questions of the quiz; their pictures and numbers are computed."""

from __future__ import annotations

from sightline.app.course import cheating, layers, path, sanity
from sightline.app.course.figures import figures, map_figure, photo_figure, signed
from sightline.app.course.gradient import nudged, picture, weights
from sightline.app.course.question import Option, Question
from sightline.app.course.subjects import ask, model, percent, pictured
from sightline.app.parts.picture import example
from sightline.app.subject import predicted
from sightline.explanation import Explanation

__all__ = ["questions"]


def questions() -> tuple[Question, ...]:
    """Return the questions, with what they need computed."""
    return (
        _linear(),
        _nudge(),
        _layer(),
        _noise(),
        _baseline(),
        _sum(),
        _head(),
        _sanity(),
        _cheating(),
        _trust(),
    )


def _linear() -> Question:
    ring, grey = picture("a ring"), picture("plain grey")

    def show() -> None:
        figures(
            [
                photo_figure(pictured(ring, "A").image, "Picture A", "A little ring, 12 by 12 pixels"),
                map_figure(signed(weights(ring)), "The linear model's gradient at A"),
                photo_figure(pictured(grey, "B").image, "Picture B", "Plain grey, 12 by 12 pixels"),
            ]
        )

    return Question(
        "linear",
        "This is a **linear** model's gradient for “ring” at picture A. What is its gradient at picture B?",
        Option("Exactly the same map", "The gradient of a linear model is its weights, whatever the picture."),
        (
            Option(
                "Zero: there is nothing to see in B", "The gradient says what a change would do, also to plain grey."
            ),
            Option(
                "The same map with its signs turned round",
                "The signs turn when the class is the other, not the picture.",
            ),
        ),
        show,
    )


def _nudge() -> Question:
    image = picture("a ring")
    n = nudged(image, 3, 3, min(255, int(image[3, 3]) + 51))
    return Question(
        "nudge",
        f"A pixel of the linear model has the weight {n.weight:.3f}. It gets brighter by {n.change:.2f} (0 is black, "
        "1 is white). The score changes by …",
        Option(f"{n.after - n.before:+.4f}", "Weight times change."),
        (
            Option(f"{n.weight:+.4f}", f"That would be a change by 1, from black to white; it was {n.change:.2f}."),
            Option(
                "That depends on the other pixels", "In a network it does. In a linear model no pixel knows of another."
            ),
        ),
    )


def _layer() -> Question:
    subject = example("ring")
    early, late = (layers.at_layer(subject, name) for name in (layers.LAYERS[1], layers.LAYERS[-1]))

    def show() -> None:
        figures([map_figure(early, "Map A"), map_figure(late, "Map B")])

    return Question(
        "layer",
        "Both are Grad-CAM maps of one picture and class. Which one was taken at the **last** convolution?",
        Option(
            "B: it is coarse",
            f"The last layer has only {late.attribution.shape[0]} × {late.attribution.shape[1]} values.",
        ),
        (
            Option(
                "A: details come last",
                "The other way round: early layers are fine and know where, late ones know what.",
            ),
            Option("It cannot be told", "It can: each pooling halves the number of values along a side."),
        ),
        show,
    )


def _noise() -> Question:
    return Question(
        "noise",
        "SmoothGrad with 25 copies has a standard error that you want to **halve**. How many copies do you take?",
        Option("100", "The error falls with the square root of the number: four times the copies for half the error."),
        (
            Option("50", "Twice the copies divide the error by √2, which is about 1.4."),
            Option(
                "25, with twice the noise",
                "More noise changes the question, and the copies' gradients differ as before.",
            ),
        ),
    )


def _from_black() -> Explanation:
    return path.made(path.PICTURES[0], "black", 10)


def _baseline() -> Question:
    e = _from_black()

    def show() -> None:
        star = pictured(path.blackened(), "a star painted black")
        figures([photo_figure(star.image, "The picture"), map_figure(e, "Integrated gradients, black baseline")])

    return Question(
        "baseline",
        f"{percent(path.on_star(e))} of this map lies on the black star. Why?",
        Option(
            "The baseline is as black as the star",
            "The factor picture minus baseline is 0 there: a baseline cannot see itself.",
        ),
        (
            Option(
                "The network does not use the star", "Without the star there is none to see; another baseline marks it."
            ),
            Option("There were too few steps", "Steps mend the sum. Zero times any gradient stays zero."),
        ),
        show,
    )


def _sum() -> Question:
    e = ask(model("honest"), example("ring"), "integrated_gradients", baseline="blur", steps=20)
    expected = e.completeness.expected if e.completeness else 0.0
    start = e.score - expected
    return Question(
        "sum",
        f"The score of a picture is {e.score:.2f}, that of the baseline {start:.2f}. To what do the parts of "
        "integrated gradients add up, but for a small gap?",
        Option(f"{expected:.2f}", "Completeness: the score less that of the baseline."),
        (
            Option(f"{e.score:.2f}", "Only for a baseline whose score is 0."),
            Option("1", "Parts of a score are not shares of one; they have signs, too."),
        ),
    )


def _head() -> Question:
    return Question(
        "head",
        "A colleague loads a Keras network with `include_top=False` and shows you “the saliency map for tiger cat”. "
        "What does it explain?",
        Option("Some feature, and no class", "Without its head the network has no class scores to explain."),
        (
            Option(
                "Tiger cat, more exactly than with the head",
                "The head is what makes scores of classes out of features.",
            ),
            Option("The most probable class", "There are no probabilities before the head and its softmax."),
        ),
    )


def _sanity() -> Question:
    subject, method = example("ring"), "guided_backprop"
    found = sanity.stays(subject, method, 2)

    def show() -> None:
        maps = (ask(sanity.shuffled(n), subject, method, "ring") for n in (0, 2))
        figures([map_figure(e, words) for e, words in zip(maps, ("Trained", "Shuffled"), strict=True)])

    return Question(
        "sanity",
        f"Guided backprop of a trained network, and of the same with the head and last convolution shuffled (SSIM "
        f"{found:.2f}). What follows?",
        Option("The map says little about the network's answer", "The answer is gone, and the map is still there."),
        (
            Option("The network is robust", "Its answers are worthless after shuffling; only the map stayed."),
            Option(
                "The method is stable, so it can be trusted",
                "An edge detector is more stable still, and knows nothing.",
            ),
        ),
        show,
    )


def _cheating() -> Question:
    subject, chosen = example("ring with a mark"), model("cheating")
    said = predicted(chosen, subject)[0]
    right = percent(cheating.examined("cheating", "stars").right)

    def show() -> None:
        e = ask(chosen, subject, "grad_cam")
        figures([photo_figure(subject.image, "The picture"), map_figure(e, f"Why “{e.target.label}”?")])

    return Question(
        "cheating",
        f"This model reaches {right} on its test, and calls this ring a {said['label']} "
        f"({percent(said['probability'])}). Which test would have shown what is wrong?",
        Option(
            "Pictures without the watermark, or with it on other shapes", "There the shortcut and the truth part ways."
        ),
        (
            Option(
                "More pictures from the same pile",
                "Any number of pictures with the same flaw reward the same shortcut.",
            ),
            Option(
                "None: no test can show it",
                "A test can, if its pictures do not share the flaw. The map says which to take.",
            ),
        ),
        show,
    )


def _trust() -> Question:
    return Question(
        "trust",
        "A map lies neatly on the object and its trust card is full. What do you know?",
        Option(
            "Nothing was found against this map", "Checks refute; they do not prove. And one picture is one picture."
        ),
        (
            Option(
                "The model is right for the right reason",
                "The card examines the map, not the model, and one picture only.",
            ),
            Option("The model is accurate", "Accuracy is a matter of a test set, and a good one at that."),
        ),
    )
