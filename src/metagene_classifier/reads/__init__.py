"""Files to reads: FASTA and FASTQ of any compression, headers, labels, cleaning, cutting reads from genomes."""
