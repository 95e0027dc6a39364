"""The text the built-in model is trained on: grammars, and the dialogues made from them."""
