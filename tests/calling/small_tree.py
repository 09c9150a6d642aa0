"""Five classes of bacteria and viruses, one of them below another."""

from metagene_classifier.calling.tree import ClassTree
from metagene_classifier.reads.labels import ClassLabel, Labels
from metagene_classifier.reads.taxonomy import TaxonNode, Taxonomy

# root ─ Bacteria ─┬─ Alpha (genus) ─┬─ Alpha prima
#                  │                 └─ Alpha secunda
#                  └─ Beta (genus) ──── Beta prima
#      └ Viruses ──── SARS-related coronavirus (species) ──── SARS-CoV-2 (no rank)
NODES = [
    (1, 1, "no rank", "root"),
    (2, 1, "superkingdom", "Bacteria"),
    (20, 2, "genus", "Alpha"),
    (200, 20, "species", "Alpha prima"),
    (201, 20, "species", "Alpha secunda"),
    (21, 2, "genus", "Beta"),
    (210, 21, "species", "Beta prima"),
    (10239, 1, "superkingdom", "Viruses"),
    (694009, 10239, "species", "SARS-related coronavirus"),
    (2697049, 694009, "no rank", "SARS-CoV-2"),
]
TAXONOMY = Taxonomy({taxid: TaxonNode(taxid, parent, rank, name) for taxid, parent, rank, name in NODES})
LABELS = Labels(
    (
        ClassLabel("0", "prima", 200),
        ClassLabel("1", "secunda", 201),
        ClassLabel("2", "beta", 210),
        ClassLabel("3", "sarbeco", 694009),
        ClassLabel("4", "covid", 2697049),
    )
)
TREE = ClassTree.of(LABELS, TAXONOMY)
