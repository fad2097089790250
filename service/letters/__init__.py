"""Dead letters: what they say, what has become of them since, and asking for them again."""
