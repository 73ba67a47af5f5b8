"""What a person looks at: pages of tables and charts, each made from figures alone."""
