"""The documents: their links, and the pictures that are drawn from tables."""

import re
import subprocess
import sys


def test_links_between_documents_lead_somewhere(root):
    documents = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("bench/**/*.md")]
    links = [(document, link) for document in documents for link in re.findall(r"\]\(([^)#]+)", document.read_text())]
    local = [(document, link) for document, link in links if "://" not in link]
    assert len(local) > 30
    missing = [f"{document.relative_to(root)}: {link}" for document, link in local if not (document.parent / link).exists()]
    assert not missing


def test_the_pictures_of_the_evidence_are_those_of_its_tables(root, tmp_path):
    subprocess.run([sys.executable, root / "scripts/evidence_pictures", tmp_path], check=True)
    drawn = {picture.name: picture.read_text() for picture in tmp_path.iterdir()}
    assert drawn == {picture.name: picture.read_text() for picture in root.glob("docs/evidence-*.svg")}
    assert set(re.findall(r"\]\((evidence-\w+\.svg)\)", (root / "docs/evidence.md").read_text())) == set(drawn)
