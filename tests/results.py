"""The README's table of results, made from the committed records:
python tests/results.py prints it.
"""

COLUMNS = ("colour", "dent", "bump", "hole", "mismatch", "hidden", "all")
CFM = {"psi_2d": "CFM, psi_2d alone", "psi_3d": "CFM, psi_3d alone", "product": "CFM, product"}
BANKS = {
    "rgb": "memory bank of colours",
    "fpfh": "memory bank of shapes",
    "btf": "memory bank of both",
}


def lines() -> list[str]:
    from mvad.reproduce.tables import defect_matrix, kept_records

    cfm, banks = defect_matrix(kept_records("cfm/6")), kept_records("memory_bank")
    rows = {label: cfm.loc[branch] for branch, label in CFM.items()}
    rows |= {
        label: defect_matrix([r for r in banks if r["run"]["variant"] == v]).loc["map"]
        for v, label in BANKS.items()
    }
    head = ["| |" + "".join(f" {c} |" for c in COLUMNS), "|---|" + "---|" * len(COLUMNS)]
    return head + [
        f"| {label} |" + "".join(f" {row[c]:.2f} |" for c in COLUMNS) for label, row in rows.items()
    ]


if __name__ == "__main__":
    print(*lines(), sep="\n")
