// What runs once in the page, whatever its components do.

import "./menus.js";
import "./sliders.js";
import "./tips.js";
