from tidegate.apps.part import end_with_parent
from tidegate.cli import main

end_with_parent()
main()
