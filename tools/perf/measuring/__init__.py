"""What the measuring scripts share, and the scripts themselves: a module for each *.sh beside."""
