"""The documentation site: reference pages made from the code, and what mkdocs calls while it builds."""
