"""Whether a picture shows the words that its prompt asks for: `texts` compares them, `reward` reads the picture."""
